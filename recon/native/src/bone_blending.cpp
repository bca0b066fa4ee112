// Blending of K bone motions for N Gaussians, and its gradient; see recon/deformation/bones.py.
//
// A motion is 16 numbers: a rotation matrix (9, by rows), an offset (3) and a quaternion wxyz (4).
//   w = softmax(logits of a Gaussian),  b = sum of w_k motion_k,
//   mean' = B mean + offset,  quat' = normalized(blended quaternion) * quat.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "parallel.h"
#include "simd.h"
#include "variant.h"

namespace fourdvd {
namespace {

constexpr int kMotion = 16, kBlock = 256;  // Gaussians in one task
constexpr int kGroup = 4;                  // Gaussians whose gradients are summed together

// The motions of all bones, once by bone and once by component with the bones padded to whole vectors.
struct Motions {
  int bones, padded;
  const float* by_bone;             // [K][16]
  std::vector<float> by_component;  // [16][padded]

  Motions(int count, const float* motions)
      : bones(count), padded((count + W - 1) / W * W), by_bone(motions),
        by_component(static_cast<size_t>(kMotion) * padded, 0.0f) {
    for (int k = 0; k < bones; ++k)
      for (int j = 0; j < kMotion; ++j) by_component[j * padded + k] = motions[kMotion * k + j];
  }
};

// Skinning weights of one Gaussian; `w` has room for `padded` numbers, the surplus becomes 0.
inline void softmax(const float* logits, const Motions& m, float* w) {
  vf most = splat(-3e38f), total{};
  for (int k = 0; k < m.bones; k += W) most = maximum(most, load_some(logits + k, m.bones - k, -3e38f));
  const float peak = highest(most);
  for (int k = 0; k < m.bones; k += W) {
    // The surplus must be 0, because a product with a denormal number takes a hundred cycles.
    const vf v = load_some(logits + k, m.bones - k, -3e38f);
    const vf power = keep(v > splat(-1e38f), exp2((v - peak) * kLog2e));
    store(w + k, power);
    total += power;
  }
  const vf scale = splat(1.0f / sum(total));
  for (int k = 0; k < m.padded; k += W) store(w + k, load(w + k) * scale);
}

inline void blend(const float* w, const Motions& m, float b[kMotion]) {
  constexpr int kParts = kMotion / W, kChains = 4;  // independent sums hide the latency of an addition
  vf sums[kChains][kParts] = {};
  int k = 0;
  for (; k + kChains <= m.bones; k += kChains)
    for (int c = 0; c < kChains; ++c)
      for (int v = 0; v < kParts; ++v)
        sums[c][v] += w[k + c] * load(m.by_bone + kMotion * (k + c) + v * W);
  for (; k < m.bones; ++k)
    for (int v = 0; v < kParts; ++v) sums[0][v] += w[k] * load(m.by_bone + kMotion * k + v * W);
  for (int v = 0; v < kParts; ++v)
    store(b + v * W, (sums[0][v] + sums[1][v]) + (sums[2][v] + sums[3][v]));
}

inline void multiply(const float p[4], const float q[4], float r[4]) {
  r[0] = p[0] * q[0] - p[1] * q[1] - p[2] * q[2] - p[3] * q[3];
  r[1] = p[0] * q[1] + p[1] * q[0] + p[2] * q[3] - p[3] * q[2];
  r[2] = p[0] * q[2] - p[1] * q[3] + p[2] * q[0] + p[3] * q[1];
  r[3] = p[0] * q[3] + p[1] * q[2] - p[2] * q[1] + p[3] * q[0];
}

inline float inverse_length(const float q[4]) {
  return 1.0f / std::max(std::sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]), 1e-12f);
}

// Gradients of one moved Gaussian by its blended motion b, its mean x and its rotation q.
inline void motion_gradient(const float* b, const float* x, const float* q, const float* g,
                            const float* h, float* d, float* d_mean, float* d_quat) {
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) d[3 * i + j] = g[i] * x[j];
    d[9 + i] = g[i];
    d_mean[i] = b[i] * g[0] + b[3 + i] * g[1] + b[6 + i] * g[2];
  }
  const float s = inverse_length(b + 12), turn[4] = {b[12] * s, b[13] * s, b[14] * s, b[15] * s};
  const float back[4] = {turn[0], -turn[1], -turn[2], -turn[3]};
  multiply(back, h, d_quat);  // the product's transpose is the product by the conjugate
  const float conjugate[4] = {q[0], -q[1], -q[2], -q[3]};
  float by_turn[4];
  multiply(h, conjugate, by_turn);
  float along = 0;
  for (int i = 0; i < 4; ++i) along += by_turn[i] * turn[i];
  for (int i = 0; i < 4; ++i) d[12 + i] = (by_turn[i] - along * turn[i]) * s;
}

}  // namespace
}  // namespace fourdvd

extern "C" {

void NAME(blend_bones)(int count, int bones, const float* logits, const float* motions,
                       const float* means, const float* quats, float* moved, float* turned) {
  using namespace fourdvd;
  const Motions m(bones, motions);
  parallel_for((count + kBlock - 1) / kBlock, [&](int block) {
    std::vector<float> w(m.padded);
    for (int n = block * kBlock; n < std::min(count, (block + 1) * kBlock); ++n) {
      float b[kMotion];
      softmax(logits + static_cast<size_t>(n) * bones, m, w.data());
      blend(w.data(), m, b);
      const float* x = means + 3 * static_cast<size_t>(n);
      for (int i = 0; i < 3; ++i)
        moved[3 * static_cast<size_t>(n) + i] =
            b[3 * i] * x[0] + b[3 * i + 1] * x[1] + b[3 * i + 2] * x[2] + b[9 + i];
      const float s = inverse_length(b + 12), turn[4] = {b[12] * s, b[13] * s, b[14] * s, b[15] * s};
      multiply(turn, quats + 4 * static_cast<size_t>(n), turned + 4 * static_cast<size_t>(n));
    }
  });
}

void NAME(blend_bones_gradient)(int count, int bones, const float* logits, const float* motions,
                                const float* means, const float* quats, const float* d_moved,
                                const float* d_turned, float* d_logits, float* d_motions,
                                float* d_means, float* d_quats) {
  using namespace fourdvd;
  const Motions m(bones, motions);
  const int blocks = (count + kBlock - 1) / kBlock, all = kMotion * m.padded;
  std::vector<float> partial(static_cast<size_t>(blocks) * all, 0.0f);  // summed in a fixed order
  parallel_for(blocks, [&](int block) {
    std::vector<float> w(static_cast<size_t>(kGroup) * m.padded), by_weight(w.size());
    float* sums = &partial[static_cast<size_t>(block) * all];
    const int end = std::min(count, (block + 1) * kBlock);
    for (int first = block * kBlock; first < end; first += kGroup) {
      const int members = std::min(kGroup, end - first);
      float d[kGroup][kMotion] = {};
      for (int i = 0; i < members; ++i) {
        const size_t n = static_cast<size_t>(first) + i;
        float b[kMotion];
        softmax(logits + n * bones, m, &w[i * m.padded]);
        blend(&w[i * m.padded], m, b);
        motion_gradient(b, means + 3 * n, quats + 4 * n, d_moved + 3 * n, d_turned + 4 * n, d[i],
                        d_means + 3 * n, d_quats + 4 * n);
      }
      vf mean[kGroup] = {};
      for (int k = 0; k < m.padded; k += W) {
        vf weight[kGroup], dot[kGroup] = {};
        for (int i = 0; i < kGroup; ++i) weight[i] = load(&w[i * m.padded + k]);
        for (int j = 0; j < kMotion; ++j) {
          const vf component = load(&m.by_component[j * m.padded + k]);
          vf total = load(sums + j * m.padded + k);
          for (int i = 0; i < kGroup; ++i) {
            dot[i] += d[i][j] * component;
            total += d[i][j] * weight[i];
          }
          store(sums + j * m.padded + k, total);
        }
        for (int i = 0; i < kGroup; ++i) {
          store(&by_weight[i * m.padded + k], dot[i]);
          mean[i] += weight[i] * dot[i];
        }
      }
      for (int i = 0; i < members; ++i) {
        const float expected = sum(mean[i]);
        float* out = d_logits + (static_cast<size_t>(first) + i) * bones;
        for (int k = 0; k < bones; k += W)
          store_some(out + k, bones - k,
                     load(&w[i * m.padded + k]) * (load(&by_weight[i * m.padded + k]) - expected));
      }
    }
  });
  std::fill(d_motions, d_motions + static_cast<size_t>(bones) * kMotion, 0.0f);
  for (int block = 0; block < blocks; ++block)
    for (int k = 0; k < bones; ++k)
      for (int j = 0; j < kMotion; ++j)
        d_motions[kMotion * k + j] += partial[static_cast<size_t>(block) * all + j * m.padded + k];
}

}  // extern "C"
