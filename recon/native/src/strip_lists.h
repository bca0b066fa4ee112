// Which Gaussians of a view cover which rows of which strips, front to back: steps 1 and 2 of
// rasterize.cpp, and the memory of a call.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "parallel.h"
#include "projection.h"
#include "simd.h"

namespace fourdvd {
namespace {

constexpr float kAlphaMin = 1.0f / 255.0f;
constexpr int kBlock = 64 * W;  // Gaussians in one task
constexpr uint32_t kUnseen = 0xffffffffu;

struct Splat {  // one visible Gaussian of one view, as the inner loop reads it; only floats
  float x, y;
  float a, b, c;  // log2(e) times conic a / 2, b, c / 2
  float log2_opacity;
  float r, g, b_, depth;
  float second_ratio;  // 2^(-2 c)
  float pad;
};

struct Piece {  // rows [y0, y1] of a splat in one strip
  uint16_t strip, y0, y1;
};

struct Pair {  // the same, in the list of the strip
  uint32_t splat, slot;
  uint16_t y0, y1;
};

struct Block {  // the pieces of kBlock Gaussians, in the order of the Gaussians
  std::vector<Piece> pieces;
  std::vector<uint32_t> in_strip;  // number of pieces in each strip
  uint32_t first[kBlock + 1];      // of each Gaussian, into `pieces`
  uint32_t slot;                   // of the first piece
};

struct View {
  CameraParameters camera;
  std::vector<Splat> splats;          // of each Gaussian
  std::vector<uint32_t> depth;        // bits of the depth, or kUnseen
  std::vector<Block> block;
  std::vector<uint64_t> keys, keys_other;
  std::vector<uint32_t> strip_begin;  // [strips + 1] into pairs
  std::vector<Pair> pairs;
  std::vector<float> slots;
};

struct State {
  int views = 0, count = 0, padded = 0, height = 0, width = 0, strips = 0;
  bool colors_by_view = false;
  std::vector<float> mean, sigma;  // 3 and 6 planes of `padded`
  std::vector<float> log_cut;      // ln(255 opacity): sigma at which alpha reaches 1/255
  const float *quats = nullptr, *scales = nullptr, *opacities = nullptr, *colors = nullptr;
  std::vector<View> view;
};

inline vf gather(const float* base, int first, int count, int stride) {
  vf v{};
  const int n = std::min(W, count - first);
  for (int i = 0; i < n; ++i) v[i] = base[static_cast<size_t>(first + i) * stride];
  return v;
}

inline void scatter(float* base, int first, int count, int stride, vf v) {
  const int n = std::min(W, count - first);
  for (int i = 0; i < n; ++i) base[static_cast<size_t>(first + i) * stride] = v[i];
}

void prepare(State& s, const float* means) {
  parallel_for((s.count + kBlock - 1) / kBlock, [&](int block) {
    for (int g = block * kBlock; g < std::min(s.count, (block + 1) * kBlock); g += W) {
      vf q[4], scale[3], sigma[6];
      for (int k = 0; k < 4; ++k) q[k] = gather(s.quats + k, g, s.count, 4);
      for (int k = 0; k < 3; ++k) scale[k] = gather(s.scales + k, g, s.count, 3);
      covariance_of(q, scale, sigma);
      for (int k = 0; k < 3; ++k) store(&s.mean[k * s.padded + g], gather(means + k, g, s.count, 3));
      for (int k = 0; k < 6; ++k) store(&s.sigma[k * s.padded + g], sigma[k]);
      for (int i = g; i < std::min(g + W, s.count); ++i)
        s.log_cut[i] = s.opacities[i] >= kAlphaMin ? std::log(255.0f * s.opacities[i]) : -1.0f;
    }
  });
}

inline Projected project_at(const State& s, const CameraParameters& camera, int g, vf sigma[6]) {
  vf mean[3];
  for (int k = 0; k < 3; ++k) mean[k] = load(&s.mean[k * s.padded + g]);
  for (int k = 0; k < 6; ++k) sigma[k] = load(&s.sigma[k * s.padded + g]);
  return project(camera, mean, sigma);
}

// Sorts keys by their upper halves, which are in [low, high]; equal ones keep their order.
void radix_sort(std::vector<uint64_t>& keys, std::vector<uint64_t>& other, uint32_t low, uint32_t high) {
  constexpr int kBits = 12, kBuckets = 1 << kBits;
  other.resize(keys.size());
  for (int shift = 0; shift < 32 && (high - low) >> shift != 0; shift += kBits) {
    auto digit = [&](uint64_t key) {
      return (static_cast<uint32_t>(key >> 32) - low) >> shift & (kBuckets - 1);
    };
    uint32_t begin[kBuckets + 1] = {};
    for (uint64_t key : keys) ++begin[digit(key) + 1];
    for (int i = 0; i < kBuckets; ++i) begin[i + 1] += begin[i];
    for (uint64_t key : keys) other[begin[digit(key)]++] = key;
    keys.swap(other);
  }
}

void sort_by_depth(const State& s, View& v) {
  uint32_t low = kUnseen, high = 0;
  v.keys.clear();
  for (int g = 0; g < s.count; ++g) {
    const uint32_t depth = v.depth[g];
    if (depth == kUnseen) continue;
    v.keys.push_back(static_cast<uint64_t>(depth) << 32 | static_cast<uint32_t>(g));
    low = std::min(low, depth), high = std::max(high, depth);
  }
  if (!v.keys.empty()) radix_sort(v.keys, v.keys_other, low, high);
}

// The next integer above or below; clamps x to [-1, size] first: a huge float has no int.
inline vi ceil_to_pixel(vf x, int size) {
  x = minimum(maximum(x, splat(-1.0f)), splat(static_cast<float>(size)));
  const vi truncated = to_int(x);
  return truncated - (to_float(truncated) < x);  // a true comparison is -1
}

inline vi floor_to_pixel(vf x, int size) {
  x = minimum(maximum(x, splat(-1.0f)), splat(static_cast<float>(size)));
  const vi truncated = to_int(x);
  return truncated + (to_float(truncated) > x);
}

struct Rows {  // [y0, y1] of W splats in one strip of each; none if y0 > y1
  vi y0, y1;
};
thread_local std::vector<Rows> t_rows;

// Lists the strips and rows of W splats: the ellipse sigma <= cut, strip by strip.
void list_pieces(const State& s, const Projected& p, vf cut, vi seen, Block& block, int first) {
  const vf zero = splat(0.0f), cut2 = 2.0f * cut;
  const vf rx = sqrt(maximum(cut2 * p.xx, zero)), ry = sqrt(maximum(cut2 * p.yy, zero));
  const vf slope = -p.conic_b / p.conic_c, spread = cut2 / p.conic_c;
  const vf inverse_rx2 = keep(rx > zero, 1.0f / (rx * rx));
  const vf x_top = p.xy / p.yy * ry;  // where the ellipse is highest
  const vi left_pixel = maximum(ceil_to_pixel(p.x - rx - 0.5f, s.width), splat(0));
  const vi right_pixel = minimum(floor_to_pixel(p.x + rx - 0.5f, s.width), splat(s.width - 1));
  const vi strip = left_pixel / W;
  const vi strips = (seen & (left_pixel <= right_pixel)) & (right_pixel / W - strip + 1);
  int most = 0;
  for (int i = 0; i < W; ++i) most = std::max(most, strips[i]);
  if (static_cast<int>(t_rows.size()) < most) t_rows.resize(most);
  for (int k = 0; k < most; ++k) {
    const vf begin = to_float((strip + k) * W);
    const vf end = minimum(begin + static_cast<float>(W), splat(static_cast<float>(s.width)));
    const vf left = maximum(begin + 0.5f - p.x, -rx), right = minimum(end - 0.5f - p.x, rx);
    const vf high = minimum(maximum(x_top, left), right), low = minimum(maximum(-x_top, left), right);
    const vf y_high = slope * high + sqrt(maximum(spread * (1.0f - high * high * inverse_rx2), zero));
    const vf y_low = slope * low - sqrt(maximum(spread * (1.0f - low * low * inverse_rx2), zero));
    t_rows[k].y0 = maximum(ceil_to_pixel(p.y + y_low - 0.5f, s.height), splat(0));
    const vi y1 = minimum(floor_to_pixel(p.y + y_high - 0.5f, s.height), splat(s.height - 1));
    t_rows[k].y1 = left <= right ? y1 : splat(-1);
  }
  for (int i = 0; i < W; ++i) {
    block.first[first + i] = static_cast<uint32_t>(block.pieces.size());
    for (int k = 0; k < strips[i]; ++k) {
      const int y0 = t_rows[k].y0[i], y1 = t_rows[k].y1[i];
      if (y0 > y1) continue;
      block.pieces.push_back({static_cast<uint16_t>(strip[i] + k), static_cast<uint16_t>(y0),
                              static_cast<uint16_t>(y1)});
      ++block.in_strip[strip[i] + k];
    }
  }
}

constexpr float kLog2Of255 = 7.99435344f;

// Writes the splats of W Gaussians; what it writes for unseen ones isn't read.
void make_splats(const State& s, View& v, const Projected& p, vf cut, int g, const float* colors) {
  constexpr int kFields = sizeof(Splat) / sizeof(float);
  const vf fields[kFields] = {p.x,
                              p.y,
                              0.5f * kLog2e * p.conic_a,
                              kLog2e * p.conic_b,
                              0.5f * kLog2e * p.conic_c,
                              kLog2e * cut - kLog2Of255,
                              gather(colors, g, s.count, 3),
                              gather(colors + 1, g, s.count, 3),
                              gather(colors + 2, g, s.count, 3),
                              p.depth,
                              exp2(-kLog2e * p.conic_c)};
  float* splats = &v.splats[g].x;
  for (int i = 0; i < std::min(W, s.count - g); ++i)
    for (int k = 0; k < kFields; ++k) splats[kFields * i + k] = fields[k][i];
}

// Projects one block of Gaussians and lists their pieces.
void project_block(const State& s, View& v, int index, const float* colors) {
  Block& block = v.block[index];
  block.pieces.clear();
  block.in_strip.assign(s.strips, 0);
  const int begin = index * kBlock, end = std::min(s.count, begin + kBlock);
  for (int g = begin; g < end; g += W) {
    vf sigma[6];
    const Projected p = project_at(s, v.camera, g, sigma);
    const vf cut = load(&s.log_cut[g]), zero = splat(0.0f);
    const vf rx = sqrt(maximum(2.0f * cut * p.xx, zero)), ry = sqrt(maximum(2.0f * cut * p.yy, zero));
    const vi seen = p.visible & (cut >= zero) & (p.x + rx > zero) &
                    (p.x - rx < splat(static_cast<float>(s.width))) & (p.y + ry > zero) &
                    (p.y - ry < splat(static_cast<float>(s.height)));
    const vi depth = seen ? (vi)p.depth : splat(-1);  // positive floats sort as integers
    for (int i = 0; i < std::min(W, s.count - g); ++i) v.depth[g + i] = static_cast<uint32_t>(depth[i]);
    list_pieces(s, p, cut, seen, block, g - begin);
    if (any(seen)) make_splats(s, v, p, cut, g, colors);
  }
  block.first[(end - begin + W - 1) / W * W] = static_cast<uint32_t>(block.pieces.size());
}

// Puts the pieces of all blocks into the lists of the strips, front to back.
void list_strips(const State& s, View& v) {
  v.strip_begin.assign(s.strips + 1, 0);
  uint32_t total = 0;
  for (Block& block : v.block) {
    block.slot = total;
    total += static_cast<uint32_t>(block.pieces.size());
    for (int i = 0; i < s.strips; ++i) v.strip_begin[i + 1] += block.in_strip[i];
  }
  for (int i = 0; i < s.strips; ++i) v.strip_begin[i + 1] += v.strip_begin[i];
  std::vector<uint32_t> cursor(v.strip_begin.begin(), v.strip_begin.end() - 1);
  v.pairs.resize(total);
  for (const uint64_t key : v.keys) {
    const uint32_t g = static_cast<uint32_t>(key);
    const Block& block = v.block[g / kBlock];
    for (uint32_t k = block.first[g % kBlock]; k < block.first[g % kBlock + 1]; ++k) {
      const Piece piece = block.pieces[k];
      v.pairs[cursor[piece.strip]++] = {g, block.slot + k, piece.y0, piece.y1};
    }
  }
}

// All steps of a view before blending; the threads share the work within each view.
void list_views(State& s) {
  const int blocks = (s.count + kBlock - 1) / kBlock;
  parallel_for(s.views * blocks, [&](int task) {
    const int i = task / blocks;
    const float* colors = s.colors + (s.colors_by_view ? static_cast<size_t>(i) * s.count * 3 : 0);
    project_block(s, s.view[i], task % blocks, colors);
  });
  parallel_for(s.views, [&](int i) {
    sort_by_depth(s, s.view[i]);
    list_strips(s, s.view[i]);
  });
}

}  // namespace
}  // namespace fourdvd
