/* A stand-in for libcudart: memory of the host, and every pointer is checked. It is no CUDA and computes nothing.
 * A call named by CUDA_FAILS ("cudaMalloc:2") fails with that code. Compute capability by GPU_CAPABILITY ("8.7"), name
 * by GPU_NAME, memory by GPU_MIB; CUDA_DRIVER ("0": none). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 256 };
static char *blocks[MOST];
static size_t sizes[MOST];
static int failing(const char *name) {
    const char *asked = getenv("CUDA_FAILS"), *colon = asked ? strchr(asked, ':') : 0;
    return colon && strlen(name) == (size_t)(colon - asked) && !strncmp(asked, name, colon - asked) ? atoi(colon + 1) : 0;
}
static int inside(const char *p, size_t size) {
    for (int i = 0; i < MOST; i++)
        if (blocks[i] && p >= blocks[i] && p + size <= blocks[i] + sizes[i]) return 1;
    return 0;
}
static const char *text(const char *name, const char *otherwise) { return getenv(name) ? getenv(name) : otherwise; }
#define CALL(name) if (failing(#name)) return failing(#name)
static int stream, events[2], made;

const char *cudaGetErrorName(int code) { return code == 2 ? "cudaErrorMemoryAllocation" : "cudaErrorOther"; }
const char *cudaGetErrorString(int code) { return code == 2 ? "out of memory" : "another error"; }
int cudaGetDeviceCount(int *out) { CALL(cudaGetDeviceCount); *out = 1; return 0; }
int cudaDeviceGetAttribute(int *out, int which, int device) {
    const char *c = getenv("GPU_CAPABILITY");
    if (device || !c) return 101;
    *out = which == 75 ? atoi(c) : which == 76 ? atoi(strchr(c, '.') + 1) : -1;
    return 0;
}
int cudaGetDeviceProperties(char *out, int device) { memset(out, 1, 2048); strcpy(out, text("GPU_NAME", "A GPU")); return device; }
int cudaMemGetInfo(size_t *free, size_t *total) {
    *free = 1;
    *total = (size_t)atoi(text("GPU_MIB", "7620")) << 20;
    return 0;
}
int cudaRuntimeGetVersion(int *out) { *out = 12060; return 0; }
int cudaDriverGetVersion(int *out) { *out = atoi(text("CUDA_DRIVER", "12080")); return 0; }
int cudaMalloc(void **out, size_t size) {
    CALL(cudaMalloc);
    for (int i = 0; i < MOST; i++)
        if (!blocks[i]) { *out = blocks[i] = malloc(size); sizes[i] = size; return 0; }
    return 2;
}
int cudaFree(void *p) {
    for (int i = 0; i < MOST; i++)
        if (blocks[i] && blocks[i] == p) { free(p); blocks[i] = 0; return 0; }
    return 1;
}
int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *s) {
    CALL(cudaMemcpyAsync);
    if (s != &stream || (kind != 1 && kind != 2) || !inside(kind == 1 ? to : from, size)) return 1;
    memcpy(to, from, size);
    return 0;
}
int cudaStreamCreate(void **out) { *out = &stream; return 0; }
int cudaStreamSynchronize(void *s) { return s == &stream ? 0 : 400; }
int cudaEventCreate(void **out) { *out = &events[made++ % 2]; return 0; }
int cudaEventRecord(void *e, void *s) { return (e == &events[0] || e == &events[1]) && s == &stream ? 0 : 400; }
int cudaEventSynchronize(void *e) { return e ? 0 : 400; }
int cudaEventElapsedTime(float *out, void *a, void *b) { *out = 1.5f; return a && b && a != b ? 0 : 400; }
