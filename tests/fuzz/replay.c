/** Runs a fuzz target over every file of the folders given: what the fuzzers found stays found. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** One file through the target; false when it cannot be read. */
static int replay_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) return 0;
    long size = ftell(file);
    rewind(file);
    uint8_t *data = size >= 0 ? malloc(size > 0 ? (size_t)size : 1)
                              : NULL; /* exact, so that a sanitizer sees reading past it */
    int whole = data != NULL && fread(data, 1, (size_t)size, file) == (size_t)size;
    fclose(file);
    if (whole) LLVMFuzzerTestOneInput(data, (size_t)size);
    free(data);
    return whole;
}

int main(int count, char **folders) {
    int files = 0;
    for (int i = 1; i < count; i++) {
        DIR *folder = opendir(folders[i]);
        if (folder == NULL) {
            fprintf(stderr, "cannot open the corpus %s\n", folders[i]);
            return 1;
        }
        for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
            char path[4096];
            if (entry->d_name[0] == '.') continue;
            snprintf(path, sizeof path, "%s/%s", folders[i], entry->d_name);
            if (!replay_file(path)) {
                fprintf(stderr, "cannot read %s\n", path);
                return 1;
            }
            files++;
        }
        closedir(folder);
    }
    printf("%d files replayed\n", files);
    return files == 0; /* an empty corpus tests nothing */
}
