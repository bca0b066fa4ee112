// All crossings of triangles with the rays through places, such that closed meshes stay closed.
//
// Along the ray through the place (x, y), a corner (X, Y, Z) projects to u = (X - x Z, Y - y Z), rounded once
// to float32; the ray itself projects to the origin. It crosses a triangle if the three products u_i x u_j have
// the same sign. Their terms are exact in double precision, and so is their sign: triangles with a common edge
// never disagree about the side on which the ray passes. A ray through an edge or a corner counts as moved by
// (e, e^2) with e -> 0. Hence each ray enters a closed mesh as often as it leaves it.
// Sources: Woop, Benthin and Wald, "Watertight Ray/Triangle Intersection", JCGT 2(1), 2013; Edelsbrunner and
// Mucke, "Simulation of Simplicity", 1990.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "mesh_visibility.h"

namespace fourdvd {
namespace {

constexpr float kCandidates = 0.02f;   // pixels around a triangle; rounding moves it by less
constexpr double kSameDepth = 1e-12;  // relative rounding error of the depths of one point

struct Crossing {
  uint32_t place;
  int32_t triangle;
  double depth;
  float weight[3];  // barycentric coordinates
  int8_t winding;   // 1 where the ray meets the front, -1 where it meets the back
};

// Whether p x q > 0 once both points are moved by -(e, e^2); `product` is p x q.
inline bool is_positive(double product, const float p[2], const float q[2]) {
  if (product != 0.0) return product > 0.0;
  return p[1] != q[1] ? p[1] > q[1] : p[0] < q[0];
}

// Intersects the ray through the place (x, y) with a triangle; false if it does not cross it.
inline bool cross(const Corner* const corner[3], int x, int y, Crossing& c) {
  float u[3][2];
  for (int i = 0; i < 3; ++i) {
    u[i][0] = static_cast<float>(corner[i]->x - (x + 0.5) * corner[i]->z);
    u[i][1] = static_cast<float>(corner[i]->y - (y + 0.5) * corner[i]->z);
  }
  double product[3], sum = 0.0, depth = 0.0;
  bool positive[3];
  for (int i = 0; i < 3; ++i) {
    const float *p = u[(i + 1) % 3], *q = u[(i + 2) % 3];
    product[i] = static_cast<double>(p[0]) * q[1] - static_cast<double>(p[1]) * q[0];
    positive[i] = is_positive(product[i], p, q);
    sum += product[i], depth += product[i] * corner[i]->z;
  }
  if (positive[0] != positive[1] || positive[0] != positive[2] || sum == 0.0) return false;
  c.depth = depth / sum;
  c.winding = positive[0] ? -1 : 1;
  for (int i = 0; i < 3; ++i) c.weight[i] = static_cast<float>(product[i] / sum);
  return c.depth >= kNearestDepth;
}

// Sorts crossings by place, then the nearest first. Where a ray enters and leaves at one depth, as at a
// silhouette, it enters first.
inline void sort_crossings(size_t places, const std::vector<Crossing>& found, std::vector<uint32_t>& ends,
                           std::vector<Crossing>& sorted) {
  ends.assign(places + 1, 0);
  for (const Crossing& c : found) ++ends[c.place + 1];
  for (size_t n = 0; n < places; ++n) ends[n + 1] += ends[n];
  sorted.resize(found.size());
  for (const Crossing& c : found) sorted[ends[c.place]++] = c;  // ends[n] becomes the end of place n
  const auto nearer = [](const Crossing& a, const Crossing& b) {
    if (a.depth != b.depth) return a.depth < b.depth;
    return a.winding != b.winding ? a.winding > b.winding : a.triangle < b.triangle;
  };
  for (size_t n = 0, first = 0; n < places; first = ends[n++]) {
    std::sort(sorted.begin() + first, sorted.begin() + ends[n], nearer);
    for (size_t k = first + 1; k < ends[n]; ++k)
      for (size_t j = k; j > first; --j) {
        const Crossing &a = sorted[j - 1], &b = sorted[j];
        if (a.winding >= b.winding || b.depth - a.depth > kSameDepth * b.depth) break;
        std::swap(sorted[j - 1], sorted[j]);
      }
  }
}

}  // namespace
}  // namespace fourdvd
