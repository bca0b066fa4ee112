// Image loss of a fit and its gradient in one pass: L1 + structural dissimilarity + L1 of alpha.
//
//   loss = sum over V images of [ l1 |x - y|  +  ssim (1 - SSIM(x, y))  +  alpha |A - A*| ] / (V H W)
//
// x is the rendered image, y the target over the same background, both H x W x 3 (color terms also
// divided by 3). SSIM: Gaussian window of 11 taps, sigma 1.5, zeros outside the image, constants for a
// range of 1 (Wang et al. 2004). It is evaluated inside a box only; outside it its loss counts as 0.
// Images are planar float32 [V, 3, H, W]; targets are interleaved bytes [H, W, 4], straight alpha.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "parallel.h"

#define NAME2(a, b) fourdvd_##a##_##b
#define NAME1(a, b) NAME2(a, b)
#define NAME(b) NAME1(VARIANT, b)

namespace {

constexpr int kRadius = 5;
constexpr float kWindow[kRadius + 1] = {  // exp(-i^2 / 4.5) normalized, from the center outwards
    0.26601172f, 0.21300554f, 0.10936069f, 0.03600077f, 0.00759876f, 0.00102838f};
constexpr float kC1 = 0.01f * 0.01f, kC2 = 0.03f * 0.03f;

struct Box {
  int x0, y0, x1, y1;  // half open, in pixels
};

// A plane with a margin of kRadius zeros on each side.
class Plane {
 public:
  void resize(int height, int width) {
    stride_ = width + 2 * kRadius;
    data_.assign(static_cast<size_t>(height + 2 * kRadius) * stride_, 0.0f);
  }
  float* row(int y) { return data_.data() + static_cast<size_t>(y + kRadius) * stride_ + kRadius; }

 private:
  int stride_ = 0;
  std::vector<float> data_;
};

// Blurs rows [y0 - kRadius, y1 + kRadius) along x and then down the columns, for columns [0, width).
void blur(Plane& in, Plane& across, Plane& out, int height, int width) {
  for (int y = -kRadius; y < height + kRadius; ++y) {
    const float* __restrict f = in.row(y);
    float* __restrict t = across.row(y);
    for (int x = 0; x < width; ++x) {
      float v = kWindow[0] * f[x];
      for (int k = 1; k <= kRadius; ++k) v += kWindow[k] * (f[x - k] + f[x + k]);
      t[x] = v;
    }
  }
  for (int y = 0; y < height; ++y) {
    const float* rows[2 * kRadius + 1];
    for (int k = -kRadius; k <= kRadius; ++k) rows[k + kRadius] = across.row(y + k);
    float* __restrict t = out.row(y);
    for (int x = 0; x < width; ++x) {
      float v = kWindow[0] * rows[kRadius][x];
      for (int k = 1; k <= kRadius; ++k) v += kWindow[k] * (rows[kRadius - k][x] + rows[kRadius + k][x]);
      t[x] = v;
    }
  }
}

struct Workspace {
  Plane x, y, product, across, mean_x, mean_y, square_x, square_y, cross, by_mean, by_square, by_cross;
};
thread_local Workspace t_workspace;

// Composites channel c of a target of bytes over the background.
inline float composite(const uint8_t* pixel, int c, float background) {
  const float a = pixel[3] * (1.0f / 255.0f);
  return pixel[c] * (1.0f / 255.0f) * a + background * (1.0f - a);
}

// Adds weight * (1 - SSIM) over the box to the loss, and its gradient to `gradient`.
double dissimilarity(const float* image, const uint8_t* target, int channel, float background,
                     int image_height, int image_width, Box box, float weight, float* gradient) {
  Workspace& w = t_workspace;
  // Work on the box and the kRadius pixels around it, because its loss depends on those too.
  const Box inner = box;
  box = {std::max(0, box.x0 - kRadius), std::max(0, box.y0 - kRadius),
         std::min(image_width, box.x1 + kRadius), std::min(image_height, box.y1 + kRadius)};
  const int height = box.y1 - box.y0, width = box.x1 - box.x0;
  for (Plane* p : {&w.x, &w.y, &w.product, &w.across, &w.mean_x, &w.mean_y, &w.square_x, &w.square_y,
                   &w.cross, &w.by_mean, &w.by_square, &w.by_cross})
    p->resize(height, width);
  const int top = std::max(-kRadius, -box.y0), bottom = std::min(height + kRadius, image_height - box.y0);
  const int left = std::max(-kRadius, -box.x0), right = std::min(width + kRadius, image_width - box.x0);
  for (int y = top; y < bottom; ++y) {
    const size_t at = static_cast<size_t>(y + box.y0) * image_width + box.x0;
    for (int x = left; x < right; ++x) {
      w.x.row(y)[x] = image[at + x];
      w.y.row(y)[x] = composite(target + 4 * (at + x), channel, background);
    }
  }
  auto multiply = [&](Plane& a, Plane& b, Plane& out) {
    for (int y = -kRadius; y < height + kRadius; ++y) {
      const float *f = a.row(y) - kRadius, *g = b.row(y) - kRadius;
      float* t = out.row(y) - kRadius;
      for (int x = 0; x < width + 2 * kRadius; ++x) t[x] = f[x] * g[x];
    }
    return &out;
  };
  blur(w.x, w.across, w.mean_x, height, width);
  blur(w.y, w.across, w.mean_y, height, width);
  blur(*multiply(w.x, w.x, w.product), w.across, w.square_x, height, width);
  blur(*multiply(w.y, w.y, w.product), w.across, w.square_y, height, width);
  blur(*multiply(w.x, w.y, w.product), w.across, w.cross, height, width);

  double loss = 0;
  for (int y = inner.y0 - box.y0; y < inner.y1 - box.y0; ++y) {
    const float *mx = w.mean_x.row(y), *my = w.mean_y.row(y), *xx = w.square_x.row(y),
                *yy = w.square_y.row(y), *xy = w.cross.row(y);
    float *gm = w.by_mean.row(y), *gs = w.by_square.row(y), *gc = w.by_cross.row(y);
    float row_loss = 0;
    for (int x = inner.x0 - box.x0; x < inner.x1 - box.x0; ++x) {
      const float mean2 = mx[x] * mx[x] + my[x] * my[x] + kC1, mean_product = 2 * mx[x] * my[x] + kC1;
      const float variance = xx[x] + yy[x] - mean2 + kC1 + kC2;
      const float covariance = 2 * (xy[x] - mx[x] * my[x]) + kC2;
      const float inverse = 1.0f / (mean2 * variance);
      const float ssim = mean_product * covariance * inverse;
      row_loss += 1.0f - ssim;
      // SSIM by the blurred x, x^2 and xy; the first also through variance and covariance.
      gs[x] = -ssim / variance;
      gc[x] = 2 * mean_product * inverse;
      gm[x] = 2 * my[x] * (covariance - mean_product) * inverse -
              2 * mx[x] * ssim * (1.0f / mean2 - 1.0f / variance);
    }
    loss += row_loss;
  }
  Plane &a = w.mean_x, &b = w.square_x, &c = w.cross;
  blur(w.by_mean, w.across, a, height, width);
  blur(w.by_square, w.across, b, height, width);
  blur(w.by_cross, w.across, c, height, width);
  // The window is symmetric, so the gradient is the blurred derivative.
  for (int y = 0; y < height; ++y) {
    const float *ga = a.row(y), *gb = b.row(y), *gc = c.row(y), *ix = w.x.row(y), *iy = w.y.row(y);
    float* g = gradient + static_cast<size_t>(y + box.y0) * image_width + box.x0;
    for (int x = 0; x < width; ++x)
      g[x] -= weight * (ga[x] + 2 * ix[x] * gb[x] + iy[x] * gc[x]);
  }
  return weight * loss;
}

}  // namespace

extern "C" {

// targets: V pointers to bytes [H, W, 4]. boxes: [V, 4] x0 y0 x1 y1 for SSIM. weights: [V] of each image.
// Writes the gradients (overwriting them), the V losses, already divided by V H W, and the V mean squared
// color differences.
void NAME(image_loss)(int views, int height, int width, const float* rgb, const float* alpha,
                      const uint8_t* const* targets, const float* backgrounds, const int* boxes,
                      const float* weights, float l1, float ssim, float alpha_weight, float* d_rgb,
                      float* d_alpha, double* losses, double* squares) {
  const size_t plane = static_cast<size_t>(height) * width;
  std::vector<double> parts(static_cast<size_t>(views) * 4, 0.0), square_parts(parts);
  fourdvd::parallel_for(views * 4, [&](int task) {
    const int view = task / 4, channel = task % 4;
    const float scale = weights[view] / (static_cast<float>(views) * plane);
    const uint8_t* target = targets[view];
    double loss = 0;
    if (channel == 3) {
      const float* a = alpha + view * plane;
      float* g = d_alpha + view * plane;
      const float weight = alpha_weight * scale;
      for (size_t i = 0; i < plane; ++i) {
        const float difference = a[i] - target[4 * i + 3] * (1.0f / 255.0f);
        loss += std::fabs(difference);
        g[i] = difference > 0 ? weight : (difference < 0 ? -weight : 0.0f);
      }
      loss *= weight;
    } else {
      const float* x = rgb + (3 * static_cast<size_t>(view) + channel) * plane;
      float* g = d_rgb + (3 * static_cast<size_t>(view) + channel) * plane;
      const float background = backgrounds[3 * view + channel], weight = l1 * scale / 3;
      double square = 0;
      for (size_t i = 0; i < plane; ++i) {
        const float difference = x[i] - composite(target + 4 * i, channel, background);
        loss += std::fabs(difference);
        square += difference * difference;
        g[i] = difference > 0 ? weight : (difference < 0 ? -weight : 0.0f);
      }
      loss *= weight;
      square_parts[task] = square / (3 * static_cast<double>(plane));
      const Box box = {boxes[4 * view], boxes[4 * view + 1], boxes[4 * view + 2], boxes[4 * view + 3]};
      if (ssim > 0 && box.x1 > box.x0 && box.y1 > box.y0)
        loss += dissimilarity(x, target, channel, background, height, width, box, ssim * scale / 3, g);
    }
    parts[task] = loss;
  });
  for (int view = 0; view < views; ++view) {
    const double *p = &parts[4 * view], *q = &square_parts[4 * view];
    losses[view] = p[0] + p[1] + p[2] + p[3];
    squares[view] = q[0] + q[1] + q[2];
  }
}

}  // extern "C"
