/* SPDX-License-Identifier: MIT
 * Runs every file of the folders named on the command line through a fuzz target, so that what a
 * fuzzer found once is tested for ever, without a fuzzer. A folder that is not there is empty. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        return 0;
    }
    size_t size = 0, cap = 1 << 16;
    uint8_t *data = malloc(cap);
    while (data) {
        size += fread(data + size, 1, cap - size, f);
        if (size < cap) {
            break;
        }
        uint8_t *more = realloc(data, cap *= 2);
        if (!more) {
            free(data);
        }
        data = more;
    }
    fclose(f);
    if (!data) {
        return 0;
    }
    /* A copy of the exact size: a sanitizer then sees every read past the end. */
    uint8_t *exact = malloc(size ? size : 1);
    for (size_t k = 0; exact && k < size; k++) {
        exact[k] = data[k];
    }
    free(data);
    if (exact) {
        LLVMFuzzerTestOneInput(exact, size);
    }
    free(exact);
    return exact != NULL;
}

int main(int argc, char **argv)
{
    int files = 0;
    for (int k = 1; k < argc; k++) {
        DIR *dir = opendir(argv[k]);
        for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
            char path[4096];
            int n = snprintf(path, sizeof path, "%s/%s", argv[k], e->d_name);
            if (e->d_name[0] != '.' && n < (int)sizeof path) {
                fprintf(stderr, "%s\n", path); /* the last one named is the one that failed */
                files += replay(path);
            }
        }
        if (dir) {
            closedir(dir);
        }
    }
    printf("%d files\n", files);
    return files == 0;
}
