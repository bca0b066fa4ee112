// Motions of K bones for the kernel in bone_blending.cpp, and how far neighbors drift apart; both with
// gradients; see recon/deformation/bones.py.
//
//   u = q / |q|,  R = matrix of u,  motion = (R by rows, c + t - R c, u with the sign of the first bone's)
//   gap(k, n) = |c_k + t_k + R_k (c_n - c_k) - (c_n + t_n)|
//
// K is a few dozen: one thread.

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "variant.h"

namespace {

constexpr int kMotion = 16;

struct Turn {
  float length, u[4], R[9];

  explicit Turn(const float* q)
      : length(std::fmax(std::sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]), 1e-12f)) {
    for (int i = 0; i < 4; ++i) u[i] = q[i] / length;
    const float w = u[0], x = u[1], y = u[2], z = u[3];
    R[0] = 1 - 2 * (y * y + z * z), R[1] = 2 * (x * y - w * z), R[2] = 2 * (x * z + w * y);
    R[3] = 2 * (x * y + w * z), R[4] = 1 - 2 * (x * x + z * z), R[5] = 2 * (y * z - w * x);
    R[6] = 2 * (x * z - w * y), R[7] = 2 * (y * z + w * x), R[8] = 1 - 2 * (x * x + y * y);
  }

  // Adds to the gradient by q, from those by the matrix and by u.
  void add_gradient(const float g[9], const float d_u[4], float* d_q) const {
    const float w = u[0], x = u[1], y = u[2], z = u[3];
    const float d[4] = {
        d_u[0] + 2 * (z * (g[3] - g[1]) + y * (g[2] - g[6]) + x * (g[7] - g[5])),
        d_u[1] + 2 * (y * (g[1] + g[3]) + z * (g[2] + g[6]) + w * (g[7] - g[5]) - 2 * x * (g[4] + g[8])),
        d_u[2] + 2 * (x * (g[1] + g[3]) + z * (g[5] + g[7]) + w * (g[2] - g[6]) - 2 * y * (g[0] + g[8])),
        d_u[3] + 2 * (x * (g[2] + g[6]) + y * (g[5] + g[7]) + w * (g[3] - g[1]) - 2 * z * (g[0] + g[4])),
    };
    float along = 0;
    for (int i = 0; i < 4; ++i) along += d[i] * u[i];
    for (int i = 0; i < 4; ++i) d_q[i] += (d[i] - along * u[i]) / length;
  }
};

inline float sign_towards(const float u[4], const float first[4]) {
  return u[0] * first[0] + u[1] * first[1] + u[2] * first[2] + u[3] * first[3] < 0 ? -1.0f : 1.0f;
}

inline float rotated(const float* R, const float* v, int row) {
  return R[3 * row] * v[0] + R[3 * row + 1] * v[1] + R[3 * row + 2] * v[2];
}

}  // namespace

extern "C" {

void NAME(bone_motions)(int bones, const float* centers, const float* translations, const float* quats,
                        float* motions) {
  const Turn first(quats);
  for (int k = 0; k < bones; ++k) {
    const Turn turn(quats + 4 * k);
    const float *c = centers + 3 * k, *t = translations + 3 * k;
    float* out = motions + kMotion * k;
    for (int i = 0; i < 9; ++i) out[i] = turn.R[i];
    for (int i = 0; i < 3; ++i) out[9 + i] = c[i] + t[i] - rotated(turn.R, c, i);
    const float sign = sign_towards(turn.u, first.u);
    for (int i = 0; i < 4; ++i) out[12 + i] = sign * turn.u[i];
  }
}

void NAME(bone_motions_gradient)(int bones, const float* centers, const float* quats,
                                 const float* d_motions, float* d_translations, float* d_quats) {
  const Turn first(quats);
  for (int k = 0; k < bones; ++k) {
    const Turn turn(quats + 4 * k);
    const float *c = centers + 3 * k, *d = d_motions + kMotion * k;
    const float sign = sign_towards(turn.u, first.u);
    float by_matrix[9], by_unit[4];
    for (int i = 0; i < 9; ++i) by_matrix[i] = d[i] - d[9 + i / 3] * c[i % 3];
    for (int i = 0; i < 4; ++i) by_unit[i] = sign * d[12 + i], d_quats[4 * k + i] = 0;
    for (int i = 0; i < 3; ++i) d_translations[3 * k + i] = d[9 + i];
    turn.add_gradient(by_matrix, by_unit, d_quats + 4 * k);
  }
}

// The mean over K bones with `near` neighbors each of sqrt(gap^2 + softness), and its gradient.
float NAME(bone_gaps)(int bones, int near, float softness, const int64_t* neighbors,
                      const float* centers, const float* translations, const float* quats,
                      float* d_translations, float* d_quats) {
  for (int i = 0; i < 3 * bones; ++i) d_translations[i] = 0;
  for (int i = 0; i < 4 * bones; ++i) d_quats[i] = 0;
  const float share = 1.0f / static_cast<float>(bones * near);
  double total = 0;
  for (int k = 0; k < bones; ++k) {
    const Turn turn(quats + 4 * k);
    const float *c = centers + 3 * k, *t = translations + 3 * k;
    float by_matrix[9] = {};
    const float by_unit[4] = {};
    for (int j = 0; j < near; ++j) {
      const size_t n = static_cast<size_t>(neighbors[static_cast<size_t>(k) * near + j]);
      float edge[3], apart[3], square = softness;
      for (int i = 0; i < 3; ++i) edge[i] = centers[3 * n + i] - c[i];
      for (int i = 0; i < 3; ++i) {
        apart[i] = rotated(turn.R, edge, i) - edge[i] + t[i] - translations[3 * n + i];
        square += apart[i] * apart[i];
      }
      const float gap = std::sqrt(square);
      total += gap;
      for (int i = 0; i < 3; ++i) {
        const float g = share * apart[i] / gap;
        d_translations[3 * k + i] += g;
        d_translations[3 * n + i] -= g;
        for (int m = 0; m < 3; ++m) by_matrix[3 * i + m] += g * edge[m];
      }
    }
    turn.add_gradient(by_matrix, by_unit, d_quats + 4 * k);
  }
  return static_cast<float>(total * share);
}

}  // extern "C"
