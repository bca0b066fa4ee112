// EWA projection of W Gaussians at a time, and its gradient.
//
// World covariance Sigma = M M^T with M = R(q) diag(s); seen by a camera with rotation `R` the 2D
// covariance is T Sigma T^T + eps2d I with T = J R (2 x 3). Symmetric matrices are stored as their upper
// triangle: xx xy xz yy yz zz and xx xy yy.
#pragma once

#include "simd.h"

namespace fourdvd {
namespace {

constexpr float kEps2d = 0.3f, kNear = 0.01f;

struct CameraParameters {
  float R[9], t[3], fx, fy, cx, cy;
  float x_low, x_high, y_low, y_high;  // limits of the slopes x / z, y / z at which J is evaluated
};

inline CameraParameters make_camera(const float* viewmat, const float* K, int height, int width) {
  CameraParameters c;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) c.R[3 * i + j] = viewmat[4 * i + j];
    c.t[i] = viewmat[4 * i + 3];
  }
  c.fx = K[0], c.fy = K[4], c.cx = K[2], c.cy = K[5];
  const float x_margin = 0.15f * width / c.fx, y_margin = 0.15f * height / c.fy;
  c.x_low = -(c.cx / c.fx + x_margin), c.x_high = (width - c.cx) / c.fx + x_margin;
  c.y_low = -(c.cy / c.fy + y_margin), c.y_high = (height - c.cy) / c.fy + y_margin;
  return c;
}

struct Rotation {
  vf m[9];
};

// q is wxyz of any length; `inverse_norm` is returned for the gradient.
inline Rotation rotation_of(const vf q[4], vf& inverse_norm) {
  const vf norm2 = q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3];
  inverse_norm = 1.0f / sqrt(maximum(norm2, splat(1e-24f)));
  const vf w = q[0] * inverse_norm, x = q[1] * inverse_norm, y = q[2] * inverse_norm,
           z = q[3] * inverse_norm;
  return {{1.0f - 2.0f * (y * y + z * z), 2.0f * (x * y - w * z), 2.0f * (x * z + w * y),
           2.0f * (x * y + w * z), 1.0f - 2.0f * (x * x + z * z), 2.0f * (y * z - w * x),
           2.0f * (x * z - w * y), 2.0f * (y * z + w * x), 1.0f - 2.0f * (x * x + y * y)}};
}

inline void covariance_of(const vf q[4], const vf s[3], vf sigma[6]) {
  vf unused;
  const Rotation r = rotation_of(q, unused);
  vf m[9];
  for (int i = 0; i < 9; ++i) m[i] = r.m[i] * s[i % 3];
  int k = 0;
  for (int i = 0; i < 3; ++i)
    for (int j = i; j < 3; ++j, ++k)
      sigma[k] = m[3 * i] * m[3 * j] + m[3 * i + 1] * m[3 * j + 1] + m[3 * i + 2] * m[3 * j + 2];
}

// From dL/dSigma (each off-diagonal entry counted once, as the derivative by the pair) to q and s.
inline void covariance_gradient(const vf q[4], const vf s[3], const vf d_sigma[6], vf dq[4], vf ds[3]) {
  vf inverse_norm;
  const Rotation r = rotation_of(q, inverse_norm);
  const vf xx = 2.0f * d_sigma[0], xy = d_sigma[1], xz = d_sigma[2], yy = 2.0f * d_sigma[3],
           yz = d_sigma[4], zz = 2.0f * d_sigma[5];
  vf d[9];  // dL/dR
  for (int j = 0; j < 3; ++j) {
    const vf m0 = r.m[j] * s[j], m1 = r.m[3 + j] * s[j], m2 = r.m[6 + j] * s[j];
    const vf d0 = xx * m0 + xy * m1 + xz * m2, d1 = xy * m0 + yy * m1 + yz * m2,
             d2 = xz * m0 + yz * m1 + zz * m2;
    ds[j] = d0 * r.m[j] + d1 * r.m[3 + j] + d2 * r.m[6 + j];
    d[j] = d0 * s[j], d[3 + j] = d1 * s[j], d[6 + j] = d2 * s[j];
  }
  const vf w = q[0] * inverse_norm, x = q[1] * inverse_norm, y = q[2] * inverse_norm,
           z = q[3] * inverse_norm;
  const vf gw = 2.0f * (x * (d[7] - d[5]) + y * (d[2] - d[6]) + z * (d[3] - d[1]));
  const vf gx = 2.0f * (y * (d[1] + d[3]) + z * (d[2] + d[6]) + w * (d[7] - d[5]) -
                        2.0f * x * (d[4] + d[8]));
  const vf gy = 2.0f * (x * (d[1] + d[3]) + z * (d[5] + d[7]) + w * (d[2] - d[6]) -
                        2.0f * y * (d[0] + d[8]));
  const vf gz = 2.0f * (x * (d[2] + d[6]) + y * (d[5] + d[7]) + w * (d[3] - d[1]) -
                        2.0f * z * (d[0] + d[4]));
  const vf along = w * gw + x * gx + y * gy + z * gz;  // the norm of q has no effect
  dq[0] = (gw - along * w) * inverse_norm, dq[1] = (gx - along * x) * inverse_norm;
  dq[2] = (gy - along * y) * inverse_norm, dq[3] = (gz - along * z) * inverse_norm;
}

struct Projected {
  vf x, y, depth;           // center in pixels, z in camera coordinates
  vf xx, xy, yy;            // 2D covariance with eps2d added
  vf conic_a, conic_b, conic_c;
  vi visible;               // in front of the camera and not degenerate
  vf cam_x, cam_y, inverse_z, slope_x, slope_y;
  vi x_inside, y_inside;    // the slope was not clamped
  vf T[6];
};

inline Projected project(const CameraParameters& c, const vf mean[3], const vf sigma[6]) {
  Projected p;
  p.cam_x = c.R[0] * mean[0] + c.R[1] * mean[1] + c.R[2] * mean[2] + c.t[0];
  p.cam_y = c.R[3] * mean[0] + c.R[4] * mean[1] + c.R[5] * mean[2] + c.t[1];
  const vf z = c.R[6] * mean[0] + c.R[7] * mean[1] + c.R[8] * mean[2] + c.t[2];
  const vi in_front = z > splat(kNear);
  p.depth = z;
  p.inverse_z = 1.0f / select(in_front, z, splat(1.0f));
  const vf x = p.cam_x * p.inverse_z, y = p.cam_y * p.inverse_z;
  p.x = c.fx * x + c.cx, p.y = c.fy * y + c.cy;
  p.slope_x = minimum(maximum(x, splat(c.x_low)), splat(c.x_high));
  p.slope_y = minimum(maximum(y, splat(c.y_low)), splat(c.y_high));
  p.x_inside = p.slope_x == x, p.y_inside = p.slope_y == y;
  const vf jx = c.fx * p.inverse_z, jy = c.fy * p.inverse_z;
  for (int k = 0; k < 3; ++k) {
    p.T[k] = jx * (c.R[k] - p.slope_x * c.R[6 + k]);
    p.T[3 + k] = jy * (c.R[3 + k] - p.slope_y * c.R[6 + k]);
  }
  const vf u0 = sigma[0] * p.T[0] + sigma[1] * p.T[1] + sigma[2] * p.T[2];
  const vf u1 = sigma[1] * p.T[0] + sigma[3] * p.T[1] + sigma[4] * p.T[2];
  const vf u2 = sigma[2] * p.T[0] + sigma[4] * p.T[1] + sigma[5] * p.T[2];
  const vf v0 = sigma[0] * p.T[3] + sigma[1] * p.T[4] + sigma[2] * p.T[5];
  const vf v1 = sigma[1] * p.T[3] + sigma[3] * p.T[4] + sigma[4] * p.T[5];
  const vf v2 = sigma[2] * p.T[3] + sigma[4] * p.T[4] + sigma[5] * p.T[5];
  p.xx = p.T[0] * u0 + p.T[1] * u1 + p.T[2] * u2 + kEps2d;
  p.xy = p.T[3] * u0 + p.T[4] * u1 + p.T[5] * u2;
  p.yy = p.T[3] * v0 + p.T[4] * v1 + p.T[5] * v2 + kEps2d;
  const vf determinant = p.xx * p.yy - p.xy * p.xy;
  p.visible = in_front & (determinant > splat(0.0f));
  const vf inverse = 1.0f / select(p.visible, determinant, splat(1.0f));
  p.conic_a = p.yy * inverse, p.conic_b = -p.xy * inverse, p.conic_c = p.xx * inverse;
  return p;
}

struct ProjectionGradient {
  vf x, y, depth, conic_a, conic_b, conic_c;  // of the loss, by what `project` returned
};

// Adds to the gradients by the world mean and the world covariance (off-diagonals counted once).
inline void project_gradient(const CameraParameters& c, const Projected& p, const vf sigma[6],
                             const ProjectionGradient& g, vf d_mean[3], vf d_sigma[6]) {
  // dCov = -C G C with C the conic and G = [[ga, gb / 2], [gb / 2, gc]].
  const vf half_b = 0.5f * g.conic_b;
  const vf m00 = p.conic_a * g.conic_a + p.conic_b * half_b, m01 = p.conic_a * half_b + p.conic_b * g.conic_c;
  const vf m10 = p.conic_b * g.conic_a + p.conic_c * half_b, m11 = p.conic_b * half_b + p.conic_c * g.conic_c;
  const vf d00 = -(m00 * p.conic_a + m01 * p.conic_b), d01 = -(m00 * p.conic_b + m01 * p.conic_c);
  const vf d11 = -(m10 * p.conic_b + m11 * p.conic_c);
  // Sigma: T^T dCov T, off-diagonals twice because both entries are one parameter.
  const vf a0 = d00 * p.T[0] + d01 * p.T[3], a1 = d00 * p.T[1] + d01 * p.T[4], a2 = d00 * p.T[2] + d01 * p.T[5];
  const vf b0 = d01 * p.T[0] + d11 * p.T[3], b1 = d01 * p.T[1] + d11 * p.T[4], b2 = d01 * p.T[2] + d11 * p.T[5];
  d_sigma[0] += p.T[0] * a0 + p.T[3] * b0;
  d_sigma[1] += 2.0f * (p.T[0] * a1 + p.T[3] * b1);
  d_sigma[2] += 2.0f * (p.T[0] * a2 + p.T[3] * b2);
  d_sigma[3] += p.T[1] * a1 + p.T[4] * b1;
  d_sigma[4] += 2.0f * (p.T[1] * a2 + p.T[4] * b2);
  d_sigma[5] += p.T[2] * a2 + p.T[5] * b2;
  // T: 2 dCov T Sigma.
  vf dT[6];
  dT[0] = 2.0f * (a0 * sigma[0] + a1 * sigma[1] + a2 * sigma[2]);
  dT[1] = 2.0f * (a0 * sigma[1] + a1 * sigma[3] + a2 * sigma[4]);
  dT[2] = 2.0f * (a0 * sigma[2] + a1 * sigma[4] + a2 * sigma[5]);
  dT[3] = 2.0f * (b0 * sigma[0] + b1 * sigma[1] + b2 * sigma[2]);
  dT[4] = 2.0f * (b0 * sigma[1] + b1 * sigma[3] + b2 * sigma[4]);
  dT[5] = 2.0f * (b0 * sigma[2] + b1 * sigma[4] + b2 * sigma[5]);
  // T = [jx (R0 - sx R2); jy (R1 - sy R2)] with jx = fx / z, jy = fy / z.
  const vf jx = c.fx * p.inverse_z, jy = c.fy * p.inverse_z;
  const vf x_by_j = dT[0] * (c.R[0] - p.slope_x * c.R[6]) + dT[1] * (c.R[1] - p.slope_x * c.R[7]) +
                    dT[2] * (c.R[2] - p.slope_x * c.R[8]);
  const vf y_by_j = dT[3] * (c.R[3] - p.slope_y * c.R[6]) + dT[4] * (c.R[4] - p.slope_y * c.R[7]) +
                    dT[5] * (c.R[5] - p.slope_y * c.R[8]);
  const vf d_slope_x = -jx * (dT[0] * c.R[6] + dT[1] * c.R[7] + dT[2] * c.R[8]);
  const vf d_slope_y = -jy * (dT[3] * c.R[6] + dT[4] * c.R[7] + dT[5] * c.R[8]);
  const vf free_x = keep(p.x_inside, d_slope_x) + c.fx * g.x;  // by x / z, center included
  const vf free_y = keep(p.y_inside, d_slope_y) + c.fy * g.y;
  const vf dx = free_x * p.inverse_z, dy = free_y * p.inverse_z;
  const vf dz = g.depth - p.inverse_z * (x_by_j * jx + y_by_j * jy + dx * p.cam_x + dy * p.cam_y);
  for (int k = 0; k < 3; ++k) d_mean[k] += c.R[k] * dx + c.R[3 + k] * dy + c.R[6 + k] * dz;
}

}  // namespace
}  // namespace fourdvd
