#include "loaders/tokenizer/sentencepiece_shim.h"

#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <sentencepiece_processor.h>
#include <string>
#include <string_view>
#include <vector>

struct gp_sentencepiece {
    sentencepiece::SentencePieceProcessor processor;
};

gp_sentencepiece *gp_sentencepiece_open(const void *data, size_t size, char *message, size_t capacity) {
    try {
        auto opened = std::make_unique<gp_sentencepiece>();
        auto status = opened->processor.LoadFromSerializedProto(std::string_view(static_cast<const char *>(data), size));
        if (status.ok()) return opened.release();
        std::snprintf(message, capacity, "%s", status.ToString().c_str());
    } catch (const std::exception &error) {
        std::snprintf(message, capacity, "%s", error.what());
    }
    return nullptr;
}

void gp_sentencepiece_close(gp_sentencepiece *processor) {
    delete processor;
}

int gp_sentencepiece_count(const gp_sentencepiece *processor) {
    return processor->processor.GetPieceSize();
}

int gp_sentencepiece_bos(const gp_sentencepiece *processor) {
    return processor->processor.bos_id();
}

const char *gp_sentencepiece_piece(const gp_sentencepiece *processor, int id, size_t *length, gp_piece_kind *kind) {
    const auto &own = processor->processor;
    const std::string &piece = own.IdToPiece(id);
    *length = piece.size();
    *kind = own.IsControl(id)   ? GP_PIECE_CONTROL
            : own.IsUnknown(id) ? GP_PIECE_UNKNOWN
            : own.IsByte(id)    ? GP_PIECE_BYTE
                                : GP_PIECE_TEXT;
    return piece.c_str();
}

int gp_sentencepiece_id(const gp_sentencepiece *processor, const char *piece) {
    try {
        int id = processor->processor.PieceToId(piece);
        return id >= 0 && id < processor->processor.GetPieceSize() && processor->processor.IdToPiece(id) == piece ? id : -1;
    } catch (const std::exception &) {
        return -1;
    }
}

bool gp_sentencepiece_encode(const gp_sentencepiece *processor, const char *text, size_t length,
                             bool (*sink)(void *user, int32_t id), void *user, char *message, size_t capacity) {
    try {
        std::vector<int> ids;
        auto status = processor->processor.Encode(std::string_view(text, length), &ids);
        if (!status.ok()) {
            std::snprintf(message, capacity, "%s", status.ToString().c_str());
            return false;
        }
        for (int id : ids) {
            if (!sink(user, id)) {
                std::snprintf(message, capacity, "out of memory");
                return false;
            }
        }
        return true;
    } catch (const std::exception &error) {
        std::snprintf(message, capacity, "%s", error.what());
        return false;
    }
}

bool gp_sentencepiece_decode(const gp_sentencepiece *processor, const int32_t *ids, size_t count, char *text,
                             size_t capacity) {
    try {
        std::vector<int> list(ids, ids + count);
        std::string decoded;
        if (!processor->processor.Decode(list, &decoded).ok() || decoded.size() + 1 > capacity) return false;
        std::memcpy(text, decoded.c_str(), decoded.size() + 1);
        return true;
    } catch (const std::exception &) {
        return false;
    }
}
