#pragma once
// Parameter updates in double, as the formulas of kernels/optimizer.h read.

#include "kernels/optimizer.h"

namespace cadre::reference {

void adamw(const kernels::AdamWSegment& segment, double* weights, const double* gradients, double* m, double* v);
void sgd(const kernels::SgdSegment& segment, double* weights, const double* gradients, double* buffer);
double sum_of_squares(const double* x, int64_t count);

}  // namespace cadre::reference
