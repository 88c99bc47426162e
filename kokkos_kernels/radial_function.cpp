// SPDX-License-Identifier: MIT
#include "kokkos_kernels/radial_function.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "kokkos_kernels/pair.hpp"

namespace equipot::kernels {

namespace {

// y += x W for W [n, m].
void multiply(const double* x, const double* W, std::size_t n, std::size_t m, double* y) {
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < m; ++j) y[j] += x[i] * W[i * m + j];
}

// scratch.value[0] holds the input; returns which of the two buffers holds the output.
int network(const std::vector<Array>& weights, bool slopes, RadialScratch& s) {
    int from = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
        const int to = 1 - from;
        const auto n = static_cast<std::size_t>(weights[i].shape[0]), m = static_cast<std::size_t>(weights[i].shape[1]);
        const double* W = weights[i].data.data();
        s.value[to].assign(m, 0.0);
        s.slope[to].assign(m, 0.0);
        multiply(s.value[from].data(), W, n, m, s.value[to].data());
        if (slopes) multiply(s.slope[from].data(), W, n, m, s.slope[to].data());
        if (i + 1 < weights.size())
            for (std::size_t j = 0; j < s.value[to].size(); ++j) {
                const double x = s.value[to][j];
                const double sigmoid = 1 / (1 + std::exp(-x));
                s.value[to][j] = x * sigmoid;
                s.slope[to][j] *= sigmoid * (1 + x * (1 - sigmoid));
            }
        from = to;
    }
    return from;
}

}  // namespace

RadialFunction::RadialFunction(const Model& model, int layer, int padded, int tail, bool folded)
    : model_(&model),
      layer_(&model.layers[static_cast<std::size_t>(layer)]),
      first_(layer == 0),
      folded_(folded),
      rows_(static_cast<int>(layer_->paths.size())),
      padded_(padded),
      tail_(tail) {
    const auto K = static_cast<std::size_t>(model.channels);
    const std::size_t nz = model.species.size();
    // Distances of pairs with one sum of radii are transformed alike.
    std::map<double, int> known;
    for (std::size_t i = 0; i < nz; ++i)
        for (std::size_t j = 0; j < nz; ++j) {
            const bool alike = model.radial.transform == RadialBasis::Transform::None;
            const double sum = alike ? 0.0 : model.radial.radii[i] + model.radial.radii[j];
            basis_keys_.push_back(known.try_emplace(sum, static_cast<int>(basis_keys_.size())).first->second);
        }
    if (!first_) return;
    sender_.assign(nz * K, 0.0);
    for (std::size_t z = 0; z < nz; ++z)
        for (std::size_t k = 0; k < K; ++k)
            for (std::size_t c = 0; c < K; ++c)
                sender_[z * K + c] += model.embedding.data[z * K + k] * layer_->up[0].data[k * K + c];
}

int RadialFunction::table_key(int zi, int zj) const {
    const int nz = static_cast<int>(model_->species.size());
    if (!first_) return basis_key(zi, zj);
    return folded_ && layer_->mixing_by_species ? zi * nz + zj : basis_key(zi, zj) * nz + zj;
}

void RadialFunction::basis(int zi, int zj, double r, double& cut, double& dcut, RadialScratch& s) const {
    const RadialBasis& radial = model_->radial;
    double x = r, dx = 1;
    if (radial.transform == RadialBasis::Transform::Agnesi) {
        const double r0 =
            0.5 * (radial.radii[static_cast<std::size_t>(zi)] + radial.radii[static_cast<std::size_t>(zj)]);
        const double y = r / r0;
        const double yq = std::pow(y, radial.q), yqp = std::pow(y, radial.q - radial.p);
        const double d = 1 + yqp;
        x = 1 / (1 + radial.a * yq / d);
        const double slope = radial.a * yq / y * (radial.q / d - (radial.q - radial.p) * yqp / (d * d));
        dx = -x * x * slope / r0;
    } else if (radial.transform == RadialBasis::Transform::Soft) {
        const double sum = radial.radii[static_cast<std::size_t>(zi)] + radial.radii[static_cast<std::size_t>(zj)];
        const double p0 = 0.75 * sum, p1 = 4.0 / 3.0 * sum;
        const double alpha = radial.alpha / (p1 - p0);
        const double t = std::tanh(alpha * (r - 0.5 * (p0 + p1)));
        x = p0 + (r - p0) * 0.5 * (1 + t);
        dx = 0.5 * (1 + t) + (r - p0) * 0.5 * alpha * (1 - t * t);
    }
    const double rc = model_->cutoff;
    const int p = radial.envelope;
    const double xc = r / rc;
    cut = envelope(xc, p);
    dcut = -0.5 * p * (p + 1) * (p + 2) * std::pow(xc, p - 1) * (1 - xc) * (1 - xc) / rc;

    const auto n = static_cast<std::size_t>(radial.size);
    s.value[0].assign(n, 0.0);
    s.slope[0].assign(n, 0.0);
    double t_last = 1, t_now = x, u_last = 0, u_now = 1;  // T_0, T_1 and their slopes by x
    for (std::size_t i = 0; i < n; ++i) {
        double f = 0, df = 0;
        switch (radial.kind) {
            case RadialBasis::Kind::Bessel: {
                const double w = radial.points[i];
                f = radial.prefactor * std::sin(w * x) / x;
                df = radial.prefactor * w * std::cos(w * x) / x - f / x;
                break;
            }
            case RadialBasis::Kind::Gaussian: {
                const double y = x - radial.points[i];
                f = std::exp(radial.coefficient * y * y);
                df = 2 * radial.coefficient * y * f;
                break;
            }
            case RadialBasis::Kind::Chebyshev: {
                f = t_now;
                df = u_now;
                const double t_next = 2 * x * t_now - t_last, u_next = 2 * t_now + 2 * x * u_now - u_last;
                t_last = t_now, t_now = t_next;
                u_last = u_now, u_now = u_next;
                break;
            }
        }
        df *= dx;
        const bool apply = radial.envelope_on_basis;
        s.value[0][i] = apply ? f * cut : f;
        s.slope[0][i] = apply ? df * cut + f * dcut : df;
    }
}

void RadialFunction::evaluate(int zi, int zj, double r, double* out, double* dout, RadialScratch& s) const {
    double cut = 0, dcut = 0;
    std::fill(out, out + outputs(), 0.0);
    const bool slopes = dout != nullptr;
    if (slopes) std::fill(dout, dout + outputs(), 0.0);
    const bool cut_weights = !model_->radial.envelope_on_basis;
    if (layer_->density) {
        basis(zi, zj, r, cut, dcut, s);
        const int last = network(layer_->density_net, slopes, s);
        const double f = s.value[last][0], df = s.slope[last][0];
        const double t = std::tanh(f * f);
        const double dt = (1 - t * t) * 2 * f * df;
        out[rows_ * padded_] = cut_weights ? t * cut : t;
        if (slopes) dout[rows_ * padded_] = cut_weights ? dt * cut + t * dcut : dt;
    }
    basis(zi, zj, r, cut, dcut, s);
    const int last = network(layer_->radial, slopes, s);
    std::vector<double>& raw = s.value[last];
    std::vector<double>& draw = s.slope[last];
    if (cut_weights)
        for (std::size_t i = 0; i < raw.size(); ++i) {
            draw[i] = draw[i] * cut + raw[i] * dcut;
            raw[i] *= cut;
        }
    const auto K = static_cast<std::size_t>(model_->channels);
    for (int row = 0; row < rows_; ++row) {
        const double* x = raw.data() + static_cast<std::size_t>(row) * K;
        const double* dx = draw.data() + static_cast<std::size_t>(row) * K;
        double* y = out + row * padded_;
        double* dy = slopes ? dout + row * padded_ : nullptr;
        s.raw.assign(x, x + K);
        s.raw_slope.assign(dx, dx + K);
        if (first_) {
            const double* u = sender_.data() + static_cast<std::size_t>(zj) * K;
            for (std::size_t k = 0; k < K; ++k) {
                s.raw[k] *= u[k];
                s.raw_slope[k] *= u[k];
            }
        }
        if (!folded_) {
            std::copy(s.raw.begin(), s.raw.end(), y);
            if (slopes) std::copy(s.raw_slope.begin(), s.raw_slope.end(), dy);
            continue;
        }
        const Array& mix = layer_->mix[static_cast<std::size_t>(layer_->paths[static_cast<std::size_t>(row)][2])];
        const double* W = mix.data.data() + (layer_->mixing_by_species ? static_cast<std::size_t>(zi) * K * K : 0);
        multiply(s.raw.data(), W, K, K, y);
        if (slopes) multiply(s.raw_slope.data(), W, K, K, dy);
    }
}

}  // namespace equipot::kernels
