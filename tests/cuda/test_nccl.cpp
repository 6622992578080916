/** Holds what kernels/cuda/nccl.h declares of NCCL to NCCL's own header, and what nccl.c loads to its
 * library.
 */
#include <nccl.h>

extern "C" {
#include "kernels/cuda/nccl.h"
}

#include <cstdio>
#include <type_traits>

/** Whether two types are passed the same way. */
template <typename A, typename B>
constexpr bool alike = sizeof(A) == sizeof(B) && alignof(A) <= alignof(ncclUniqueId *) &&
                       std::is_pointer_v<A> == std::is_pointer_v<B> &&std::is_class_v<A> ==
                           std::is_class_v<B> &&std::is_floating_point_v<A> == std::is_floating_point_v<B>;

template <typename A, typename B> struct same_call : std::false_type {};
template <typename R, typename... A, typename S, typename... B> struct same_call<R (*)(A...), S (*)(B...)> {
    static constexpr bool value = [] {
        if constexpr (sizeof...(A) == sizeof...(B)) return alike<R, S> && (alike<A, B> && ...);
        return false;
    }();
};
#define SAME_CALL(theirs, ours)                                                                              \
    static_assert(same_call<decltype(&theirs), decltype(gp_nccl::ours)>::value, #theirs)

SAME_CALL(ncclGetVersion, get_version);
SAME_CALL(ncclGetUniqueId, get_unique_id);
SAME_CALL(ncclCommInitRankConfig, init_rank);
SAME_CALL(ncclAllGather, all_gather);
SAME_CALL(ncclBroadcast, broadcast);
SAME_CALL(ncclSend, send);
SAME_CALL(ncclRecv, receive);
SAME_CALL(ncclGroupStart, group_start);
SAME_CALL(ncclGroupEnd, group_end);
SAME_CALL(ncclCommGetAsyncError, get_async_error);
SAME_CALL(ncclCommAbort, abort);
SAME_CALL(ncclCommFinalize, finalize);
SAME_CALL(ncclCommDestroy, destroy);
SAME_CALL(ncclGetErrorString, get_error_string);

#define SAME_VALUE(theirs, ours) static_assert(static_cast<int>(theirs) == static_cast<int>(ours), #theirs)
SAME_VALUE(ncclSuccess, GP_NCCL_SUCCESS);
SAME_VALUE(ncclInternalError, GP_NCCL_INTERNAL_ERROR);
SAME_VALUE(ncclInvalidArgument, GP_NCCL_INVALID_ARGUMENT);
SAME_VALUE(ncclInvalidUsage, GP_NCCL_INVALID_USAGE);
SAME_VALUE(ncclRemoteError, GP_NCCL_REMOTE_ERROR);
SAME_VALUE(ncclInProgress, GP_NCCL_IN_PROGRESS);
SAME_VALUE(ncclUint8, GP_NCCL_UINT8);
SAME_VALUE(ncclFloat32, GP_NCCL_FLOAT32);
SAME_VALUE(NCCL_VERSION(2, 14, 0), GP_NCCL_VERSION_MIN);

static_assert(sizeof(ncclUniqueId) == sizeof(gp_communicator_id), "ncclUniqueId");
#define SAME_PLACE(field)                                                                                    \
    static_assert(offsetof(ncclConfig_t, field) == offsetof(gp_nccl_config, field) &&                        \
                      sizeof(ncclConfig_t::field) == sizeof(gp_nccl_config::field),                          \
                  #field)
SAME_PLACE(size);
SAME_PLACE(magic);
SAME_PLACE(version);
SAME_PLACE(blocking);
static_assert(sizeof(gp_nccl_config) <= sizeof(ncclConfig_t), "an older ncclConfig_t is shorter");

int main() {
    ncclConfig_t initial = NCCL_CONFIG_INITIALIZER;
    if (initial.magic != GP_NCCL_CONFIG_MAGIC) {
        fprintf(stderr, "the magic of ncclConfig_t is %x\n", initial.magic);
        return 1;
    }
    const gp_nccl *nccl;
    gp_status status = {};
    if (!gp_nccl_load(&nccl, &status)) {
        printf("skipped: %s\n", status.message);
        return 77;
    }
    int version = 0;
    bool told = nccl->get_version(&version) == GP_NCCL_SUCCESS;
    printf("NCCL %d has all that is used; header %d\n", version, NCCL_VERSION_CODE);
    return told && version >= GP_NCCL_VERSION_MIN ? 0 : 1;
}
