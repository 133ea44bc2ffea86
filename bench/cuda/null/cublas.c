/* cuBLAS and cuBLASLt without a card: products are counted and do nothing. See cudart.c. */
#include <stdint.h>
#include <stdlib.h>

void null_device_count(const char *group, const char *name, uint64_t bytes);

enum { SUCCESS = 0, NOT_SUPPORTED = 15 };

#define HANDLE(name) \
  int name(void **out) { return *out = calloc(1, 64), SUCCESS; }
/* Arguments are not looked at. */
#define PRODUCT(name) \
  int name() { return null_device_count("product", #name, 0), SUCCESS; }
#define NOTHING(name) \
  int name() { return SUCCESS; }
#define REFUSED(name) \
  int name() { return null_device_count("refused", #name, 0), NOT_SUPPORTED; }

#ifdef LT
HANDLE(cublasLtCreate)
NOTHING(cublasLtDestroy)
PRODUCT(cublasLtMatmul)
/* No algorithm is ever found. */
REFUSED(cublasLtMatmulAlgoGetHeuristic)
REFUSED(cublasLtMatmulAlgoInit)
NOTHING(cublasLtMatmulAlgoConfigSetAttribute)
HANDLE(cublasLtMatmulDescCreate)
NOTHING(cublasLtMatmulDescDestroy)
NOTHING(cublasLtMatmulDescSetAttribute)
HANDLE(cublasLtMatmulPreferenceCreate)
NOTHING(cublasLtMatmulPreferenceDestroy)
NOTHING(cublasLtMatmulPreferenceSetAttribute)
HANDLE(cublasLtMatrixLayoutCreate)
NOTHING(cublasLtMatrixLayoutDestroy)
NOTHING(cublasLtMatrixLayoutSetAttribute)
PRODUCT(cublasLtMatrixTransform)
HANDLE(cublasLtMatrixTransformDescCreate)
NOTHING(cublasLtMatrixTransformDescDestroy)
#else
HANDLE(cublasCreate_v2)
NOTHING(cublasDestroy_v2)
NOTHING(cublasSetStream_v2)
NOTHING(cublasSetMathMode)
int cublasGetMathMode(void *handle, int *out) { return *out = 0, SUCCESS; }
const char *cublasGetStatusName(int status) { return status == SUCCESS ? "success" : "not supported"; }
const char *cublasGetStatusString(int status) { return cublasGetStatusName(status); }
PRODUCT(cublasGemmEx)
PRODUCT(cublasGemmBatchedEx)
PRODUCT(cublasGemmStridedBatchedEx)
PRODUCT(cublasSgemm_v2)
PRODUCT(cublasSgemmBatched)
PRODUCT(cublasSgemmStridedBatched)
PRODUCT(cublasDgemm_v2)
PRODUCT(cublasDgemmBatched)
PRODUCT(cublasDgemmStridedBatched)
PRODUCT(cublasSgeam)
PRODUCT(cublasDgeam)
PRODUCT(cublasScopy_v2)
PRODUCT(cublasSscal_v2)
REFUSED(cublasSgetrfBatched)
REFUSED(cublasSgetriBatched)
REFUSED(cublasDgetrfBatched)
REFUSED(cublasDgetriBatched)
#endif
