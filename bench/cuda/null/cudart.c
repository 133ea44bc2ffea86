/*
 * A CUDA runtime without a card: the functions that ONNX Runtime's CUDA provider and this program import from
 * libcudart.so.13, so that the host's side of a run can be looked at where there is no GPU. Device memory is address
 * space that nobody can read or write: what touches it other than through a copy dies of a segmentation fault. Copies
 * are checked against the allocations and counted, their data is dropped; what comes back from the device is zeros.
 * Kernels are counted by name and do nothing. So the results of a run mean nothing, and no time that a card would need
 * is in any figure; which calls are made, in what order and for how many bytes, is what a card would see.
 *
 * null_device_reset() forgets the counts, null_device_report() returns them as JSON.
 */
#define _GNU_SOURCE
#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define DEVICE_BYTES ((size_t)139 << 30)
#define PAGE ((size_t)4096)
#define HASH_SIZE 65536

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* --- counts ------------------------------------------------------------------------------------------------------- */

typedef struct Counter {
  struct Counter *next;
  const char *group, *name;
  uint64_t calls, bytes;
} Counter;
static Counter *counters[1024];

static unsigned hash_text(const char *text) {
  unsigned hash = 5381;
  while (*text) hash = hash * 33 + (unsigned char)*text++;
  return hash;
}

/* Also used by the other libraries. Names live for ever. */
void null_device_count(const char *group, const char *name, uint64_t bytes) {
  pthread_mutex_lock(&lock);
  Counter **slot = &counters[(hash_text(name) ^ hash_text(group)) % 1024];
  Counter *found = *slot;
  while (found && (strcmp(found->name, name) || strcmp(found->group, group))) found = found->next;
  if (!found) {
    found = calloc(1, sizeof *found);
    found->next = *slot, found->group = group, found->name = name;
    *slot = found;
  }
  found->calls++, found->bytes += bytes;
  pthread_mutex_unlock(&lock);
}

void null_device_reset(void) {
  pthread_mutex_lock(&lock);
  for (int i = 0; i < 1024; i++)
    for (Counter *each = counters[i]; each; each = each->next) each->calls = each->bytes = 0;
  pthread_mutex_unlock(&lock);
}

/* [{"group", "name", "calls", "bytes"}]; valid until the next call. */
const char *null_device_report(void) {
  static char *text;
  size_t length;
  free(text);
  FILE *out = open_memstream(&text, &length);
  pthread_mutex_lock(&lock);
  const char *separator = "[";
  for (int i = 0; i < 1024; i++)
    for (Counter *each = counters[i]; each; each = each->next) {
      if (!each->calls) continue;
      fprintf(out, "%s{\"group\":\"%s\",\"name\":\"%s\",\"calls\":%llu,\"bytes\":%llu}", separator, each->group, each->name,
              (unsigned long long)each->calls, (unsigned long long)each->bytes);
      separator = ",";
    }
  pthread_mutex_unlock(&lock);
  fputs(*separator == '[' ? "[]" : "]", out);
  fclose(out);
  return text;
}

#define COUNT() null_device_count("call", __func__, 0)

/* A fault of the caller that a card might have swallowed or answered late. */
static cudaError_t fault(cudaError_t error, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("null device: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  null_device_count("fault", cudaGetErrorName(error), 0);
  return error;
}

/* --- memory ------------------------------------------------------------------------------------------------------- */

typedef struct Block {
  struct Block *next;
  char *start;
  size_t bytes;
  int on_device;
} Block;
static Block *blocks;
static size_t used;

static Block *find_block(const void *pointer) {
  for (Block *each = blocks; each; each = each->next)
    if ((const char *)pointer >= each->start && (const char *)pointer < each->start + each->bytes) return each;
  return NULL;
}

static cudaError_t allocate(void **out, size_t bytes, int on_device) {
  size_t size = (bytes + PAGE - 1) / PAGE * PAGE;
  if (on_device && used + size > DEVICE_BYTES) return cudaErrorMemoryAllocation;
  int access = on_device ? PROT_NONE : PROT_READ | PROT_WRITE;
  void *start = mmap(NULL, size ? size : PAGE, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) return cudaErrorMemoryAllocation;
  Block *block = malloc(sizeof *block);
  pthread_mutex_lock(&lock);
  *block = (Block){blocks, start, bytes, on_device};
  blocks = block;
  if (on_device) used += size;
  pthread_mutex_unlock(&lock);
  *out = start;
  return cudaSuccess;
}

static cudaError_t release(void *pointer) {
  if (!pointer) return cudaSuccess;
  pthread_mutex_lock(&lock);
  Block **link = &blocks;
  while (*link && (*link)->start != pointer) link = &(*link)->next;
  Block *block = *link;
  if (block) {
    *link = block->next;
    size_t size = (block->bytes + PAGE - 1) / PAGE * PAGE;
    if (block->on_device) used -= size;
    munmap(block->start, size ? size : PAGE);
    free(block);
  }
  pthread_mutex_unlock(&lock);
  return block ? cudaSuccess : fault(cudaErrorInvalidValue, "freed what was never allocated");
}

/* 1: all bytes on the device; 0: all on the host; -1: a range that leaves its allocation. */
static int place_of(const void *pointer, size_t bytes) {
  pthread_mutex_lock(&lock);
  Block *block = find_block(pointer);
  int place = !block || !block->on_device ? 0 : (const char *)pointer + bytes <= block->start + block->bytes ? 1 : -1;
  if (block && !block->on_device && (const char *)pointer + bytes > block->start + block->bytes) place = -1;
  pthread_mutex_unlock(&lock);
  return place;
}

static cudaError_t copy(const char *how, void *target, const void *source, size_t bytes, enum cudaMemcpyKind kind) {
  int to = place_of(target, bytes), from = place_of(source, bytes);
  if (to < 0 || from < 0)
    return fault(cudaErrorInvalidValue, "%s of %zu bytes leaves the allocation of its %s", how, bytes, to < 0 ? "target" : "source");
  enum cudaMemcpyKind found = from ? (to ? cudaMemcpyDeviceToDevice : cudaMemcpyDeviceToHost)
                                   : (to ? cudaMemcpyHostToDevice : cudaMemcpyHostToHost);
  if (kind != cudaMemcpyDefault && kind != found)
    return fault(cudaErrorInvalidValue, "%s of kind %d between memory of kind %d", how, kind, found);
  static const char *names[] = {"host to host", "host to device", "device to host", "device to device"};
  null_device_count("copy", names[found], bytes);
  if (found == cudaMemcpyHostToHost) memmove(target, source, bytes);
  if (found == cudaMemcpyDeviceToHost) memset(target, 0, bytes);
  return cudaSuccess;
}

static cudaError_t set(const char *how, void *target, int value, size_t bytes) {
  int to = place_of(target, bytes);
  if (to < 0) return fault(cudaErrorInvalidValue, "%s of %zu bytes leaves its allocation", how, bytes);
  if (to == 0) memset(target, value, bytes);
  null_device_count("call", how, bytes);
  return cudaSuccess;
}

/* --- streams, events, graphs -------------------------------------------------------------------------------------- */

typedef struct {
  int capturing;
} Stream;
static int capturing_streams;

/* What CUDA forbids while a stream is captured. */
#define NOT_WHILE_CAPTURING()                                                                                      \
  do {                                                                                                             \
    if (capturing_streams) return fault(cudaErrorStreamCaptureUnsupported, "%s during a capture", __func__);       \
  } while (0)

static cudaError_t new_handle(void **out) {
  *out = calloc(1, sizeof(Stream));
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *out) { return COUNT(), new_handle((void **)out); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags) { return COUNT(), new_handle((void **)out); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return free(stream), cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) { return COUNT(), cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  NOT_WHILE_CAPTURING();
  return COUNT(), cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void) {
  NOT_WHILE_CAPTURING();
  return COUNT(), cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *out) {
  *out = stream && ((Stream *)stream)->capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
  COUNT();
  ((Stream *)stream)->capturing = 1;
  capturing_streams++;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out) {
  COUNT();
  ((Stream *)stream)->capturing = 0;
  capturing_streams--;
  return new_handle((void **)out);
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags) {
  return COUNT(), new_handle((void **)out);
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) { return COUNT(), cudaSuccess; }
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return free(graph), cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return free(graph), cudaSuccess; }

cudaError_t cudaEventCreate(cudaEvent_t *out) { return new_handle((void **)out); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags) { return new_handle((void **)out); }
cudaError_t cudaEventDestroy(cudaEvent_t event) { return free(event), cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) { return COUNT(), cudaSuccess; }
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) { return COUNT(), cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return COUNT(), cudaSuccess; }
cudaError_t cudaEventElapsedTime(float *out, cudaEvent_t start, cudaEvent_t end) { return *out = 0, cudaSuccess; }
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) { return COUNT(), function(data), cudaSuccess; }

/* --- allocation and copies ---------------------------------------------------------------------------------------- */

cudaError_t cudaMalloc(void **out, size_t bytes) {
  NOT_WHILE_CAPTURING();
  null_device_count("call", __func__, bytes);
  return allocate(out, bytes, 1);
}
cudaError_t cudaMallocFromPoolAsync(void **out, size_t bytes, cudaMemPool_t pool, cudaStream_t stream) {
  null_device_count("call", __func__, bytes);
  return allocate(out, bytes, 1);
}
cudaError_t cudaMallocHost(void **out, size_t bytes) { return null_device_count("call", __func__, bytes), allocate(out, bytes, 0); }
cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags) {
  return null_device_count("call", __func__, bytes), allocate(out, bytes, 0);
}
cudaError_t cudaFree(void *pointer) {
  NOT_WHILE_CAPTURING();
  return COUNT(), release(pointer);
}
cudaError_t cudaFreeAsync(void *pointer, cudaStream_t stream) { return COUNT(), release(pointer); }
cudaError_t cudaFreeHost(void *pointer) { return COUNT(), release(pointer); }
cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
  *total = DEVICE_BYTES;
  *available = DEVICE_BYTES - used;
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void *target, const void *source, size_t bytes, enum cudaMemcpyKind kind) {
  NOT_WHILE_CAPTURING();
  return COUNT(), copy(__func__, target, source, bytes, kind);
}
cudaError_t cudaMemcpyAsync(void *target, const void *source, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
  return COUNT(), copy(__func__, target, source, bytes, kind);
}
cudaError_t cudaMemcpy2DAsync(void *target, size_t target_pitch, const void *source, size_t source_pitch, size_t width,
                              size_t height, enum cudaMemcpyKind kind, cudaStream_t stream) {
  COUNT();
  for (size_t row = 0; row < height; row++) {
    char *to = (char *)target + row * target_pitch;
    cudaError_t error = copy(__func__, to, (const char *)source + row * source_pitch, width, kind);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}
cudaError_t cudaMemcpyFromSymbol(void *target, const void *symbol, size_t bytes, size_t offset, enum cudaMemcpyKind kind) {
  NOT_WHILE_CAPTURING();
  return COUNT(), memset(target, 0, bytes), cudaSuccess;
}
cudaError_t cudaMemset(void *target, int value, size_t bytes) {
  NOT_WHILE_CAPTURING();
  return set(__func__, target, value, bytes);
}
cudaError_t cudaMemsetAsync(void *target, int value, size_t bytes, cudaStream_t stream) { return set(__func__, target, value, bytes); }
cudaError_t cudaMemPoolCreate(cudaMemPool_t *out, const struct cudaMemPoolProps *properties) { return new_handle((void **)out); }
cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) { return free(pool), cudaSuccess; }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t bytes) { return cudaSuccess; }
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr attribute, void *value) { return cudaSuccess; }
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr attribute, void *value) {
  return *(uint64_t *)value = 0, cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *out, const void *pointer) {
  int place = place_of(pointer, 1);
  memset(out, 0, sizeof *out);
  out->type = place == 1 ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
  out->devicePointer = place == 1 ? (void *)pointer : NULL;
  out->hostPointer = place == 1 ? NULL : (void *)pointer;
  return cudaSuccess;
}

/* --- kernels ------------------------------------------------------------------------------------------------------ */

typedef struct {
  const void *host;
  const char *name;
} Kernel;
static Kernel kernels[HASH_SIZE];

static Kernel *kernel_at(const void *host) {
  size_t at = ((uintptr_t)host >> 4) % HASH_SIZE;
  while (kernels[at].host && kernels[at].host != host) at = (at + 1) % HASH_SIZE;
  return &kernels[at];
}
static void count_kernel(const Kernel *kernel) { null_device_count("kernel", kernel->name ? kernel->name : "unknown", 0); }

void **__cudaRegisterFatBinary(void *binary) { return calloc(1, sizeof(void *)); }
void __cudaRegisterFatBinaryEnd(void **handle) {}
void __cudaUnregisterFatBinary(void **handle) {}
void __cudaRegisterVar(void **handle, char *host, char *device, const char *name, int ext, size_t size, int constant, int global) {}
void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name, int threads, uint3 *thread,
                            uint3 *block, dim3 *block_dim, dim3 *grid_dim, int *warp) {
  *kernel_at(host) = (Kernel){host, name};
}
static _Thread_local struct {
  dim3 grid, block;
  size_t shared;
  void *stream;
} configuration;
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, struct CUstream_st *stream) {
  configuration.grid = grid, configuration.block = block, configuration.shared = shared, configuration.stream = stream;
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
  *grid = configuration.grid, *block = configuration.block, *shared = configuration.shared;
  *(void **)stream = configuration.stream;
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t *out, const void *host) { return *out = (cudaKernel_t)kernel_at(host), cudaSuccess; }
static cudaError_t launch(const Kernel *kernel, dim3 grid, dim3 block) {
  size_t threads = (size_t)block.x * block.y * block.z;
  if (!grid.x || !grid.y || !grid.z || !threads || threads > 1024)
    return fault(cudaErrorInvalidConfiguration, "%s with a grid of %u x %u x %u blocks of %zu threads", kernel->name, grid.x, grid.y,
                 grid.z, threads);
  return count_kernel(kernel), cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream) {
  return launch((const Kernel *)kernel, grid, block);
}
cudaError_t cudaLaunchKernel(const void *host, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream) {
  return launch(kernel_at(host), grid, block);
}
cudaError_t cudaLaunchCooperativeKernel(const void *host, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream) {
  return launch(kernel_at(host), grid, block);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *host, void **arguments) {
  return launch(kernel_at(host), config->gridDim, config->blockDim);
}
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *out, const void *host) {
  memset(out, 0, sizeof *out);
  out->maxThreadsPerBlock = 1024, out->numRegs = 32, out->ptxVersion = out->binaryVersion = 90;
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void *host, enum cudaFuncAttribute attribute, int value) { return cudaSuccess; }
cudaError_t cudaKernelSetAttributeForDevice(cudaKernel_t kernel, enum cudaFuncAttribute attribute, int value, int device) {
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *out, const void *host, int block, size_t shared, unsigned flags) {
  return *out = 2, cudaSuccess;
}
cudaError_t cudaLibraryLoadData(cudaLibrary_t *library, const void *code, enum cudaJitOption *jit, void **jit_values, unsigned jit_count,
                                enum cudaLibraryOption *options, void **values, unsigned count) {
  return cudaErrorNotSupported;
}
cudaError_t cudaLibraryGetKernel(cudaKernel_t *out, cudaLibrary_t library, const char *name) { return cudaErrorNotSupported; }
cudaError_t cudaLibraryUnload(cudaLibrary_t library) { return cudaSuccess; }

/* --- the device --------------------------------------------------------------------------------------------------- */

cudaError_t cudaGetDeviceCount(int *out) { return *out = 1, cudaSuccess; }
cudaError_t cudaGetDevice(int *out) { return *out = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }
cudaError_t cudaDriverGetVersion(int *out) { return *out = 13000, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *out) { return *out = 13000, cudaSuccess; }
cudaError_t cudaGetLastError(void) { return cudaSuccess; }
cudaError_t cudaPeekAtLastError(void) { return cudaSuccess; }
cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **out, unsigned version, unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *status) {
  *out = NULL;
  if (status) *status = cudaDriverEntryPointSymbolNotFound;
  return cudaErrorNotSupported;
}
const char *cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorNotSupported: return "cudaErrorNotSupported";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    default: return "another error";
  }
}
const char *cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }

/* Figures of an H200, as far as the provider chooses kernels by them. */
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int device) {
  memset(out, 0, sizeof *out);
  strcpy(out->name, "null device");
  out->totalGlobalMem = DEVICE_BYTES;
  out->major = 9, out->minor = 0, out->multiProcessorCount = 132;
  out->warpSize = 32, out->maxThreadsPerBlock = 1024, out->maxThreadsPerMultiProcessor = 2048;
  for (int i = 0; i < 3; i++) out->maxThreadsDim[i] = i < 2 ? 1024 : 64, out->maxGridSize[i] = i ? 65535 : 2147483647;
  out->sharedMemPerBlock = 49152, out->sharedMemPerBlockOptin = 232448, out->sharedMemPerMultiprocessor = 233472;
  out->regsPerBlock = out->regsPerMultiprocessor = 65536;
  out->l2CacheSize = 60 << 20, out->totalConstMem = 65536;
  out->unifiedAddressing = out->managedMemory = out->concurrentKernels = out->canMapHostMemory = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *out, enum cudaDeviceAttr attribute, int device) {
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *out = 9; break;
    case cudaDevAttrMultiProcessorCount: *out = 132; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *out = 49152; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *out = 232448; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *out = 233472; break;
    case cudaDevAttrMaxThreadsPerBlock: *out = 1024; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *out = 2048; break;
    case cudaDevAttrWarpSize: *out = 32; break;
    case cudaDevAttrMaxGridDimX: *out = 2147483647; break;
    case cudaDevAttrMemoryPoolsSupported: *out = 1; break;
    default: *out = 0;
  }
  return cudaSuccess;
}
