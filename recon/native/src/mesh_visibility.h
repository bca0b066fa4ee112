// Visibility of triangles: rasterization in homogeneous coordinates with a z-buffer.
//
// A place is the center of a cell of a regular grid: a pixel or a sample of one. A corner is (X, Y, Z) and
// lies at X/Z, Y/Z; Z is the depth for a camera, and 1 in orthographic maps. Barycentric coordinates over
// depth, b_i / z, are affine in the place, because sum of b_i corner_i = z (x, y, 1): they are the rows of the
// inverse of the matrix of corners. No clipping is needed, as points behind the camera have 1/z < 0. The
// highest nearness is visible: 1/z, or in orthographic maps a number that is given at the corners.
// Source: Olano and Greer, "Triangle Scan Conversion using 2D Homogeneous Coordinates", 1997.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "simd.h"

namespace fourdvd {
namespace {

constexpr float kNearestDepth = 0.01f;  // world units; nothing nearer is drawn
constexpr float kNothing = -3e38f;      // nearness of an empty place
constexpr double kRounding = 1e-6;      // of float32 over the box of a triangle

struct Corner {
  float x, y, z, nearness;
};

struct Plane {  // a dx + b dy + c, from the first place of a triangle's box
  float a, b, c;
};

struct Outline {  // a triangle on the grid; empty if y0 > y1
  Plane weight[3], nearness;
  float slack[3];  // bound of the rounding error of each weight; without it, shared edges would have gaps
  int x0, x1, y0 = 0, y1 = -1;
  bool back;  // whether its back is visible
};

// Sets the box of places that a triangle may cover, or that are nearer to it than `margin` places; false if
// there are none.
inline bool set_box(const Corner* const corner[3], int height, int width, float margin, Outline& t) {
  float left = 3e38f, right = -3e38f, top = 3e38f, bottom = -3e38f;
  int behind = 0;
  for (int i = 0; i < 3; ++i) {
    const Corner& p = *corner[i];
    if (!(std::fabs(p.x) + std::fabs(p.y) + std::fabs(p.z) < 1e15f)) return false;
    if (p.z < kNearestDepth) {
      ++behind;
      continue;
    }
    left = std::min(left, p.x / p.z), right = std::max(right, p.x / p.z);
    top = std::min(top, p.y / p.z), bottom = std::max(bottom, p.y / p.z);
  }
  if (behind == 3) return false;
  if (behind > 0) left = top = 0, right = static_cast<float>(width), bottom = static_cast<float>(height);
  left -= margin, top -= margin, right += margin, bottom += margin;
  t.x0 = static_cast<int>(std::ceil(std::min(std::max(left, 0.0f), width + 1.0f) - 0.5f));
  t.y0 = static_cast<int>(std::ceil(std::min(std::max(top, 0.0f), height + 1.0f) - 0.5f));
  t.x1 = static_cast<int>(std::floor(std::min(std::max(right, -1.0f), static_cast<float>(width)) - 0.5f));
  t.y1 = static_cast<int>(std::floor(std::min(std::max(bottom, -1.0f), static_cast<float>(height)) - 0.5f));
  return t.x0 <= t.x1 && t.y0 <= t.y1;
}

inline Outline outline_of(const Corner* const corner[3], bool perspective, int height, int width,
                          float margin = 0.0f) {
  Outline t;
  if (!set_box(corner, height, width, margin, t)) return Outline{};
  double rows[3][3];
  for (int i = 0; i < 3; ++i) {  // doubles: the products of small triangles cancel
    const Corner &p = *corner[(i + 1) % 3], &q = *corner[(i + 2) % 3];
    rows[i][0] = static_cast<double>(p.y) * q.z - static_cast<double>(p.z) * q.y;
    rows[i][1] = static_cast<double>(p.z) * q.x - static_cast<double>(p.x) * q.z;
    rows[i][2] = static_cast<double>(p.x) * q.y - static_cast<double>(p.y) * q.x;
  }
  const Corner& first = *corner[0];
  const double volume = first.x * rows[0][0] + first.y * rows[0][1] + first.z * rows[0][2];
  if (!(std::fabs(volume) > 1e-30)) return Outline{};
  const double x = t.x0 + 0.5, y = t.y0 + 0.5, inverse = 1.0 / volume;
  double sum[3] = {};
  for (int i = 0; i < 3; ++i) {
    const double a = rows[i][0] * inverse, b = rows[i][1] * inverse, c = rows[i][2] * inverse + a * x + b * y;
    t.weight[i] = {static_cast<float>(a), static_cast<float>(b), static_cast<float>(c)};
    t.slack[i] = static_cast<float>(
        kRounding * (std::fabs(a) * (t.x1 - t.x0) + std::fabs(b) * (t.y1 - t.y0) + std::fabs(c)) +
        margin * (std::fabs(a) + std::fabs(b)));
    const double nearness = perspective ? 1.0 : corner[i]->nearness;
    sum[0] += a * nearness, sum[1] += b * nearness, sum[2] += c * nearness;
  }
  t.nearness = {static_cast<float>(sum[0]), static_cast<float>(sum[1]), static_cast<float>(sum[2])};
  t.back = volume > 0;
  return t;
}

// Perspective-correct barycentric coordinates at a place; they sum to 1.
inline void weights_at(const Outline& t, int x, int y, float b[3]) {
  const float dx = static_cast<float>(x - t.x0), dy = static_cast<float>(y - t.y0);
  for (int i = 0; i < 3; ++i)
    b[i] = std::max(0.0f, t.weight[i].a * dx + t.weight[i].b * dy + t.weight[i].c);
  const float scale = 1.0f / std::max(b[0] + b[1] + b[2], 1e-30f);
  for (int i = 0; i < 3; ++i) b[i] *= scale;
}

struct DepthBuffer {
  int height = 0, width = 0, stride = 0;
  std::vector<float> nearness;
  std::vector<int32_t> triangle;  // -1 where there is nothing

  void clear(int new_height, int new_width) {
    height = new_height, width = new_width;
    stride = (width + 2 * W - 1) / W * W;  // a vector that starts at the last place stays in its row
    nearness.assign(static_cast<size_t>(height) * stride, kNothing);
    triangle.assign(static_cast<size_t>(height) * stride, -1);
  }
};

// Calls hit(place, x, y, inside, nearness) for W places at a time; `inside` masks the covered ones.
template <class Hit>
inline void for_covered(const Outline& t, int stride, float highest, const Hit& hit) {
  const vf lanes = iota();
  for (int y = t.y0; y <= t.y1; ++y) {
    const float dy = static_cast<float>(y - t.y0);
    for (int x = t.x0; x <= t.x1; x += W) {
      const vf dx = lanes + static_cast<float>(x - t.x0);
      vi inside = dx <= splat(static_cast<float>(t.x1 - t.x0));
      for (int i = 0; i < 3; ++i)
        inside &= t.weight[i].a * dx + (t.weight[i].b * dy + t.weight[i].c + t.slack[i]) >= splat(0.0f);
      const vf nearness = t.nearness.a * dx + (t.nearness.b * dy + t.nearness.c);
      inside &= (nearness > splat(kNothing)) & (nearness <= splat(highest));
      if (any(inside)) hit(static_cast<size_t>(y) * stride + x, x, y, inside, nearness);
    }
  }
}

// Draws an opaque triangle; of two at equal depth the first one stays.
inline void draw_solid(const Outline& t, int32_t index, float highest, DepthBuffer& buffer) {
  for_covered(t, buffer.stride, highest, [&](size_t place, int, int, vi inside, vf nearness) {
    float* depths = &buffer.nearness[place];
    const vf old = load(depths);
    const vi nearer = inside & (nearness > old);
    if (!any(nearer)) return;
    store(depths, select(nearer, nearness, old));
    float* triangles = reinterpret_cast<float*>(&buffer.triangle[place]);
    store(triangles, select(nearer, (vf)splat(index), load(triangles)));
  });
}

}  // namespace
}  // namespace fourdvd
