// A step of Adam (Kingma and Ba 2015) on several tensors in one pass; see recon/fitting/adam.py.
//
//   m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,
//   x -= rate / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + epsilon)

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "parallel.h"
#include "variant.h"

namespace {

constexpr int64_t kSlice = 1 << 14;  // numbers in one task

struct Slice {
  int tensor;
  int64_t begin, end;
};

}  // namespace

extern "C" {

// sizes: numbers of each tensor. values, gradients, means, squares: pointers to them, m and v updated in
// place. rates, steps: learning rate and t of each tensor.
void NAME(adam)(int tensors, const int64_t* sizes, float* const* values, const float* const* gradients,
                float* const* means, float* const* squares, const double* rates, const double* steps,
                double b1, double b2, double epsilon) {
  std::vector<Slice> slices;
  for (int i = 0; i < tensors; ++i)
    for (int64_t begin = 0; begin < sizes[i]; begin += kSlice)
      slices.push_back({i, begin, std::min(sizes[i], begin + kSlice)});
  fourdvd::parallel_for(static_cast<int>(slices.size()), [&](int task) {
    const Slice s = slices[task];
    float *__restrict x = values[s.tensor], *__restrict m = means[s.tensor],
          *__restrict v = squares[s.tensor];
    const float* __restrict g = gradients[s.tensor];
    const double t = steps[s.tensor];
    const float size = static_cast<float>(rates[s.tensor] / (1 - std::pow(b1, t)));
    const float unbias = static_cast<float>(1 / std::sqrt(1 - std::pow(b2, t)));
    const float decay1 = static_cast<float>(b1), decay2 = static_cast<float>(b2);
    const float fresh1 = static_cast<float>(1 - b1), fresh2 = static_cast<float>(1 - b2);
    const float floor = static_cast<float>(epsilon);
    for (int64_t i = s.begin; i < s.end; ++i) {
      m[i] = decay1 * m[i] + fresh1 * g[i];
      v[i] = decay2 * v[i] + fresh2 * g[i] * g[i];
      x[i] -= size * m[i] / (std::sqrt(v[i]) * unbias + floor);
    }
  });
}

}  // extern "C"
