// CPU rasterizer: V images of N Gaussians, and the gradients of a loss of the images.
//
// An image is cut into strips W pixels wide and as high as the image; one vector is one row of a strip.
// 1. Project W Gaussians at a time; the cutoff at alpha = 1/255 bounds each by an exact ellipse. List the
//    strips it touches, with its exact rows in each.
// 2. Radix sort by depth; make the list of each strip, front to back.
// 3. Blend each strip front to back. Down the rows of a strip exp(-sigma) follows from the row above by
//    two multiplications, because sigma is quadratic in y.
// 4. The backward pass goes front to back as well: the contribution behind a Gaussian is the total minus
//    the part blended so far. Gradients go into one slot per (Gaussian, strip) pair, those of a Gaussian
//    one after the other, and are then summed: no atomics, and bit-identical results with any number of
//    threads.
//
// Images are planar, [V, C, H, W]; all inputs are contiguous float32.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "parallel.h"
#include "projection.h"
#include "simd.h"

#ifndef VARIANT
#error "compile with -DVARIANT=<name of the instruction set>"
#endif
#define NAME2(a, b) fourdvd_##a##_##b
#define NAME1(a, b) NAME2(a, b)
#define NAME(b) NAME1(VARIANT, b)

namespace fourdvd {
namespace {

constexpr float kAlphaMin = 1.0f / 255.0f, kAlphaMax = 0.999f, kTransmittanceMin = 1e-4f;
constexpr float kLog2e = 1.44269504f;
constexpr float kExponentRange = 110.0f;  // beyond this the recurrence could under- or overflow
constexpr int kRun = 32;                  // rows after which the recurrence is restarted
constexpr int kSlot = 10;                 // s, s dx, s dx2, s dy, s dx dy, s dy2, r, g, b, depth
constexpr int kBlock = 64 * W;            // Gaussians in one task
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

// Rows of a strip that still have a pixel with transmittance, one bit per row.
class LiveRows {
 public:
  explicit LiveRows(int height) : words_((height + 63) / 64, ~uint64_t{0}) {}
  void finish(int row) { words_[row / 64] &= ~(uint64_t{1} << (row % 64)); }

  // Shrinks [y0, y1] to its first and last live row; false if there is none.
  bool trim(int& y0, int& y1) const {
    const int first = y0 / 64, last = y1 / 64;
    int top = -1, bottom = -1;
    for (int k = first; k <= last; ++k) {
      uint64_t bits = words_[k];
      if (k == first) bits &= ~uint64_t{0} << (y0 % 64);
      if (k == last) bits &= ~uint64_t{0} >> (63 - y1 % 64);
      if (bits == 0) continue;
      if (top < 0) top = 64 * k + __builtin_ctzll(bits);
      bottom = 64 * k + 63 - __builtin_clzll(bits);
    }
    y0 = top, y1 = bottom;
    return top >= 0;
  }

 private:
  std::vector<uint64_t> words_;
};

// Calls row(y, dy, falloff) for rows y0..y1 with falloff = opacity * exp(-sigma) of the W pixels.
template <class Row>
inline void for_rows(const Splat& p, vf dx, int y0, int y1, const Row& row) {
  const vf quadratic = splat(p.log2_opacity) - p.a * dx * dx, linear = p.b * dx;
  for (int run = y0; run <= y1; run += kRun) {
    const int end = std::min(y1, run + kRun - 1);
    const float dy = run + 0.5f - p.y, dy_end = end + 0.5f - p.y;
    const vf exponent = quadratic - dy * (linear + p.c * dy);
    const vf step = -(linear + p.c * (2.0f * dy + 1.0f));
    const vf exponent_end = quadratic - dy_end * (linear + p.c * dy_end);
    const vf limit = splat(-kExponentRange);
    if (any((minimum(exponent, exponent_end) < limit) | (step < limit) | (step > -limit))) {
      for (int y = run; y <= end; ++y) {
        const float d = y + 0.5f - p.y;
        row(y, d, exp2(quadratic - d * (linear + p.c * d)));
      }
      continue;
    }
    vf falloff = exp2(exponent), ratio = exp2(step);
    float d = dy;
    for (int y = run; y <= end; ++y, d += 1.0f) {
      row(y, d, falloff);
      falloff *= ratio;
      ratio *= p.second_ratio;
    }
  }
}

struct Scratch {
  std::vector<float> memory;
  float* rows(int planes, int height) {
    memory.resize(static_cast<size_t>(planes) * height * W);
    return memory.data();
  }
};
thread_local Scratch t_scratch;

inline vf initial_transmittance(int strip, int width) {
  return select(iota() + static_cast<float>(strip * W) < splat(static_cast<float>(width)), splat(1.0f),
                splat(-1.0f));  // a negative one marks a finished pixel
}

inline void copy_out(float* image, int strip, int width, int y, vf v) {
  const int n = std::min(W, width - strip * W);
  float* to = image + static_cast<size_t>(y) * width + strip * W;
  if (n == W) return store(to, v);
  for (int i = 0; i < n; ++i) to[i] = v[i];
}

inline vf copy_in(const float* image, int strip, int width, int y) {
  const int n = std::min(W, width - strip * W);
  const float* from = image + static_cast<size_t>(y) * width + strip * W;
  if (n == W) return load(from);
  vf v{};
  for (int i = 0; i < n; ++i) v[i] = from[i];
  return v;
}

constexpr size_t kAhead = 4;  // pairs between the request of their memory and its use

inline void prefetch_splat(const View& v, size_t k) {
  if (k < v.pairs.size()) __builtin_prefetch(&v.splats[v.pairs[k].splat]);
}

inline void prefetch_slot(const View& v, size_t k) {
  if (k < v.pairs.size()) __builtin_prefetch(&v.slots[static_cast<size_t>(v.pairs[k].slot) * kSlot], 1);
}

// Effect of one row of a splat on the pixels of that row.
struct Contribution {
  vf before, alpha, weight;  // transmittance in front of the splat, its alpha, and their product
  vi drawn, stopped;         // lanes it contributes to; lanes it would finish

  // Stores the transmittance behind it; true if no pixel of the row is left. Without a branch on
  // `stopped`: some pixel stops in one of ten rows, which the processor cannot predict.
  bool leave(float* transmittance) const {
    const vf left = before - weight, marked = negate(stopped, left);
    store(transmittance, marked);
    return all_negative(marked);
  }
};

inline Contribution contribution(vf before, vf falloff) {
  const vf alpha = minimum(falloff, splat(kAlphaMax));
  const vi hit = falloff >= splat(kAlphaMin);
  const vi drawn = hit & (before - before * alpha > splat(kTransmittanceMin));
  const vi stopped = hit & ~drawn & (before > splat(0.0f));
  return {before, alpha, keep(drawn, before * alpha), drawn, stopped};
}

void blend_strip(const State& s, const View& v, int strip, const float* background, float* rgb,
                 float* alpha, float* depth) {
  const int H = s.height;
  float* T = t_scratch.rows(5, H);
  float *R = T + W, *G = R + W, *B = G + W, *D = B + W;
  constexpr int kRow = 5 * W;  // row by row: addresses 4 KiB apart would make loads wait for stores
  std::fill(T, T + H * kRow, 0.0f);
  for (int y = 0; y < H; ++y) store(T + y * kRow, initial_transmittance(strip, s.width));
  LiveRows live(H);
  for (uint32_t k = v.strip_begin[strip]; k < v.strip_begin[strip + 1]; ++k) {
    prefetch_splat(v, k + kAhead);
    int y0 = v.pairs[k].y0, y1 = v.pairs[k].y1;
    if (!live.trim(y0, y1)) continue;
    const Splat p = v.splats[v.pairs[k].splat];
    const vf dx = iota() + (strip * W + 0.5f - p.x);
    for_rows(p, dx, y0, y1, [&](int y, float, vf falloff) {
      const int at = y * kRow;
      const Contribution it = contribution(load(T + at), falloff);
      store(R + at, load(R + at) + it.weight * p.r);
      store(G + at, load(G + at) + it.weight * p.g);
      store(B + at, load(B + at) + it.weight * p.b_);
      store(D + at, load(D + at) + it.weight * p.depth);
      if (it.leave(T + at)) live.finish(y);
    });
  }
  const size_t plane = static_cast<size_t>(H) * s.width;
  for (int y = 0; y < H; ++y) {
    const vf left = load(T + y * kRow), t = maximum(left, -left);
    copy_out(rgb, strip, s.width, y, load(R + y * kRow) + t * background[0]);
    copy_out(rgb + plane, strip, s.width, y, load(G + y * kRow) + t * background[1]);
    copy_out(rgb + 2 * plane, strip, s.width, y, load(B + y * kRow) + t * background[2]);
    copy_out(alpha, strip, s.width, y, 1.0f - t);
    copy_out(depth, strip, s.width, y, load(D + y * kRow));
  }
}

struct ImageGradients {  // planes of one view; null where the loss does not depend on them
  const float *rgb, *alpha, *depth;                 // images
  const float *d_rgb, *d_alpha, *d_depth;           // gradients by them
};

template <bool kWithDepth>
void blend_strip_gradient(const State& s, View& v, int strip, const ImageGradients& g) {
  const int H = s.height;
  const size_t plane = static_cast<size_t>(H) * s.width;
  float* T = t_scratch.rows(kWithDepth ? 6 : 5, H);
  float *rest = T + W, *gr = rest + W, *gg = gr + W, *gb = gg + W, *gd = gb + W;
  constexpr int kRow = (kWithDepth ? 6 : 5) * W;
  for (int y = 0; y < H; ++y) {
    const int at = y * kRow;
    const vf r = copy_in(g.d_rgb, strip, s.width, y), gr_ = copy_in(g.d_rgb + plane, strip, s.width, y),
             b = copy_in(g.d_rgb + 2 * plane, strip, s.width, y);
    store(T + at, initial_transmittance(strip, s.width));
    store(gr + at, r), store(gg + at, gr_), store(gb + at, b);
    // Gradient by all contributions together; the part behind a Gaussian is this minus the part before it.
    vf total = r * copy_in(g.rgb, strip, s.width, y) + gr_ * copy_in(g.rgb + plane, strip, s.width, y) +
               b * copy_in(g.rgb + 2 * plane, strip, s.width, y);
    if (g.d_alpha)
      total -= copy_in(g.d_alpha, strip, s.width, y) * (1.0f - copy_in(g.alpha, strip, s.width, y));
    if (kWithDepth) {
      const vf d = copy_in(g.d_depth, strip, s.width, y);
      store(gd + at, d);
      total += d * copy_in(g.depth, strip, s.width, y);
    }
    store(rest + at, total);
  }
  LiveRows live(H);
  for (uint32_t k = v.strip_begin[strip]; k < v.strip_begin[strip + 1]; ++k) {
    prefetch_splat(v, k + kAhead), prefetch_slot(v, k + kAhead);
    float* slot = &v.slots[static_cast<size_t>(v.pairs[k].slot) * kSlot];
    int y0 = v.pairs[k].y0, y1 = v.pairs[k].y1;
    if (!live.trim(y0, y1)) {
      std::fill(slot, slot + kSlot, 0.0f);
      continue;
    }
    const Splat p = v.splats[v.pairs[k].splat];
    const vf dx = iota() + (strip * W + 0.5f - p.x);
    vf s0{}, s1{}, s2{}, r{}, gsum{}, b{}, d{};
    for_rows(p, dx, y0, y1, [&](int y, float dy, vf falloff) {
      const int at = y * kRow;
      const Contribution it = contribution(load(T + at), falloff);
      const vf g_r = load(gr + at), g_g = load(gg + at), g_b = load(gb + at);
      vf value = g_r * p.r + g_g * p.g + g_b * p.b_;
      if (kWithDepth) {
        const vf g_d = load(gd + at);
        value += g_d * p.depth;
        d += it.weight * g_d;
      }
      const vf behind = load(rest + at) - it.weight * value;
      store(rest + at, behind);
      const vf by_alpha = it.before * value - behind / (1.0f - it.alpha);
      const vf by_exponent = keep(it.drawn & (falloff <= splat(kAlphaMax)), it.alpha * by_alpha);
      const vf moment = by_exponent * dy;
      s0 += by_exponent, s1 += moment, s2 += moment * dy;
      r += it.weight * g_r, gsum += it.weight * g_g, b += it.weight * g_b;
      if (it.leave(T + at)) live.finish(y);
    });
    const vf sx = s0 * dx, sums[8] = {s0, sx, sx * dx, s1, s1 * dx, s2, r, gsum};
    sum8(sums, slot);
    slot[8] = sum(b);
    slot[9] = kWithDepth ? sum(d) : 0.0f;
  }
}

struct Gradients {
  float *means, *quats, *scales, *opacities, *colors, *means2d;  // means2d may be null
};

// Sums the slots of W Gaussians in one view, and turns moments into derivatives.
inline vi collect(const State& s, const View& v, int g, float sums[kSlot][W]) {
  const Block& block = v.block[g / kBlock];
  const uint32_t* first = block.first + g % kBlock;
  const float* slot = v.slots.data() + static_cast<size_t>(block.slot + first[0]) * kSlot;
  vi seen{};
  for (int i = 0; i < W; ++i) {
    float total[kSlot] = {};
    seen[i] = -(first[i] < first[i + 1]);
    for (uint32_t k = first[i]; k < first[i + 1]; ++k, slot += kSlot)
      for (int j = 0; j < kSlot; ++j) total[j] += slot[j];
    for (int j = 0; j < kSlot; ++j) sums[j][i] = total[j];
  }
  return seen;
}

void gather_gradients(const State& s, const Gradients& out, int g) {
  vf d_mean[3] = {}, d_sigma[6] = {}, d_color[3] = {}, d_opacity{};
  for (int view = 0; view < s.views; ++view) {
    const View& v = s.view[view];
    alignas(64) float sums[kSlot][W];
    const vi seen = collect(s, v, g, sums);
    vf m[kSlot];
    for (int j = 0; j < kSlot; ++j) m[j] = load(sums[j]);
    vf by_x{}, by_y{};
    if (any(seen)) {
      vf sigma[6];
      Projected p = project_at(s, v.camera, g, sigma);
      p.inverse_z = keep(seen, p.inverse_z);  // an unseen Gaussian must not turn 0 times inf into NaN
      by_x = keep(seen, p.conic_a * m[1] + p.conic_b * m[3]);
      by_y = keep(seen, p.conic_b * m[1] + p.conic_c * m[3]);
      const ProjectionGradient by = {by_x, by_y, m[9], -0.5f * m[2], -m[4], -0.5f * m[5]};
      vf view_mean[3] = {}, view_sigma[6] = {};
      project_gradient(v.camera, p, sigma, by, view_mean, view_sigma);
      for (int k = 0; k < 3; ++k) d_mean[k] += keep(seen, view_mean[k]);
      for (int k = 0; k < 6; ++k) d_sigma[k] += keep(seen, view_sigma[k]);
      d_opacity += m[0];
    }
    for (int k = 0; k < 3; ++k) {
      if (s.colors_by_view)
        scatter(out.colors + (static_cast<size_t>(view) * s.count) * 3 + k, g, s.count, 3, m[6 + k]);
      else
        d_color[k] += m[6 + k];
    }
    if (out.means2d) {
      scatter(out.means2d + static_cast<size_t>(view) * s.count * 2, g, s.count, 2, by_x);
      scatter(out.means2d + static_cast<size_t>(view) * s.count * 2 + 1, g, s.count, 2, by_y);
    }
  }
  vf q[4], scale[3], dq[4], ds[3];
  for (int k = 0; k < 4; ++k) q[k] = gather(s.quats + k, g, s.count, 4);
  for (int k = 0; k < 3; ++k) scale[k] = gather(s.scales + k, g, s.count, 3);
  covariance_gradient(q, scale, d_sigma, dq, ds);
  const vf opacity = gather(s.opacities, g, s.count, 1);
  for (int k = 0; k < 3; ++k) scatter(out.means + k, g, s.count, 3, d_mean[k]);
  for (int k = 0; k < 4; ++k) scatter(out.quats + k, g, s.count, 4, dq[k]);
  for (int k = 0; k < 3; ++k) scatter(out.scales + k, g, s.count, 3, ds[k]);
  scatter(out.opacities, g, s.count, 1, d_opacity / maximum(opacity, splat(kAlphaMin)));
  if (!s.colors_by_view)
    for (int k = 0; k < 3; ++k) scatter(out.colors + k, g, s.count, 3, d_color[k]);
}

}  // namespace
}  // namespace fourdvd

extern "C" {

// Creates a workspace that keeps its memory between calls; forward fills it, backward reads it.
void* NAME(rasterizer_create)() { return new fourdvd::State(); }
void NAME(rasterizer_destroy)(void* state) { delete static_cast<fourdvd::State*>(state); }

void NAME(rasterize)(void* state, int views, int count, int height, int width, const float* means,
                     const float* quats, const float* scales, const float* opacities,
                     const float* colors, int colors_by_view, const float* viewmats, const float* Ks,
                     const float* backgrounds, float* rgb, float* alpha, float* depth) {
  using namespace fourdvd;
  State& s = *static_cast<State*>(state);
  s.views = views, s.count = count, s.height = height, s.width = width;
  s.padded = (count + W - 1) / W * W, s.strips = (width + W - 1) / W;
  s.colors_by_view = colors_by_view != 0;
  s.quats = quats, s.scales = scales, s.opacities = opacities, s.colors = colors;
  s.mean.resize(3 * static_cast<size_t>(s.padded)), s.sigma.resize(6 * static_cast<size_t>(s.padded));
  s.log_cut.assign(s.padded, -1.0f);
  if (static_cast<int>(s.view.size()) < views) s.view.resize(views);
  prepare(s, means);
  for (int i = 0; i < views; ++i) {
    View& v = s.view[i];
    v.camera = make_camera(viewmats + 16 * i, Ks + 9 * i, height, width);
    v.splats.resize(count);
    v.depth.resize(count);
    v.block.resize((count + kBlock - 1) / kBlock);
  }
  list_views(s);
  const size_t plane = static_cast<size_t>(height) * width;
  parallel_for(views * s.strips, [&](int task) {
    const int i = task / s.strips;
    blend_strip(s, s.view[i], task % s.strips, backgrounds + 3 * i, rgb + 3 * plane * i,
                alpha + plane * i, depth + plane * i);
  });
}

// The inputs of `rasterize` must still be at the same addresses. d_alpha and d_depth may be null.
void NAME(rasterize_gradient)(void* state, const float* rgb, const float* alpha, const float* depth,
                              const float* d_rgb, const float* d_alpha, const float* d_depth,
                              float* d_means, float* d_quats, float* d_scales, float* d_opacities,
                              float* d_colors, float* d_means2d) {
  using namespace fourdvd;
  State& s = *static_cast<State*>(state);
  for (int i = 0; i < s.views; ++i) s.view[i].slots.resize(s.view[i].pairs.size() * kSlot);
  const size_t plane = static_cast<size_t>(s.height) * s.width;
  parallel_for(s.views * s.strips, [&](int task) {
    const int i = task / s.strips;
    const ImageGradients g = {rgb + 3 * plane * i, alpha + plane * i, depth + plane * i,
                              d_rgb + 3 * plane * i, d_alpha ? d_alpha + plane * i : nullptr,
                              d_depth ? d_depth + plane * i : nullptr};
    if (d_depth)
      blend_strip_gradient<true>(s, s.view[i], task % s.strips, g);
    else
      blend_strip_gradient<false>(s, s.view[i], task % s.strips, g);
  });
  const Gradients out = {d_means, d_quats, d_scales, d_opacities, d_colors, d_means2d};
  parallel_for((s.count + kBlock - 1) / kBlock, [&](int block) {
    for (int g = block * kBlock; g < std::min(s.count, (block + 1) * kBlock); g += W)
      gather_gradients(s, out, g);
  });
}

}  // extern "C"
