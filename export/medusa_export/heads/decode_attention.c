/* One decoding step of grouped-query attention over a bf16 cache, for many slots of different lengths.
 *
 *   q       float  [slots, kv_heads, group, dim]
 *   keys    bf16   [slots, kv_heads, capacity, dim]   (values alike)
 *   lengths int64  [slots]   cache rows that slot may see
 *   out     float  [slots, kv_heads, group, dim]
 *
 * torch's CPU attention pads every slot to the longest one and is slow for one query; this reads each cache row once
 * and serves all queries of the group from it. Plain C: the compiler vectorises the inner loops. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define MAX_GROUP 16
#define MAX_DIM 256

static inline void widen(const uint16_t *restrict row, float *restrict wide, int dim) {
    for (int d = 0; d < dim; d++) {
        uint32_t bits = (uint32_t)row[d] << 16;
        memcpy(&wide[d], &bits, 4);
    }
}

static inline __attribute__((always_inline)) void attend_slot(const float *q, const uint16_t *keys,
                                                              const uint16_t *values, int64_t length, float *out,
                                                              float *scores, int group, int dim) {
    float wide[MAX_DIM] __attribute__((aligned(64)));
    float sum[MAX_GROUP * MAX_DIM] __attribute__((aligned(64)));
    const float scale = 1.0f / sqrtf((float)dim);
    for (int64_t s = 0; s < length; s++) {
        widen(keys + s * dim, wide, dim);
        for (int g = 0; g < group; g++) {
            float dot = 0;
            for (int d = 0; d < dim; d++) dot += q[g * dim + d] * wide[d];
            scores[g * length + s] = dot * scale;
        }
    }
    for (int g = 0; g < group; g++) {
        float *row = scores + g * length, top = row[0], total = 0;
        for (int64_t s = 1; s < length; s++) top = row[s] > top ? row[s] : top;
        for (int64_t s = 0; s < length; s++) row[s] = expf(row[s] - top);
        for (int64_t s = 0; s < length; s++) total += row[s];
        for (int64_t s = 0; s < length; s++) row[s] /= total;
    }
    memset(sum, 0, sizeof(float) * group * dim);
    for (int64_t s = 0; s < length; s++) {
        widen(values + s * dim, wide, dim);
        for (int g = 0; g < group; g++) {
            float p = scores[g * length + s];
            for (int d = 0; d < dim; d++) sum[g * dim + d] += p * wide[d];
        }
    }
    memcpy(out, sum, sizeof(float) * group * dim);
}

/* scores: scratch of group * capacity floats. Returns 1 when the sizes are beyond what this kernel holds. */
int decode_attention(const float *q, const uint16_t *keys, const uint16_t *values, const int64_t *lengths, float *out,
                     float *scores, int64_t slots, int64_t kv_heads, int64_t group, int64_t dim, int64_t capacity) {
    if (group > MAX_GROUP || dim > MAX_DIM) return 1;
    for (int64_t b = 0; b < slots * kv_heads; b++) {
        const uint16_t *k = keys + b * capacity * dim, *v = values + b * capacity * dim;
        const float *query = q + b * group * dim;
        float *to = out + b * group * dim;
        int64_t length = lengths[b / kv_heads];
        if (dim == 64 && group == 3) /* constants let the compiler keep the sums in registers */
            attend_slot(query, k, v, length, to, scores, 3, 64);
        else
            attend_slot(query, k, v, length, to, scores, (int)group, (int)dim);
    }
    return 0;
}
