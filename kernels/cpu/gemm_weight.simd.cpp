#include "kernels/cpu/gemm_parts.h"

// dw = dy^T x is cut three ways: passes over rows of the batch, chunks of columns (x packed into panels that stay in
// the L2 cache), bands of dw rows (dy packed into tiles). While one band is multiplied the next one is packed, a few
// rows at each tile, so that the misses on dy, whose rows lie a page apart, hide behind arithmetic.

namespace cadre::cpu::CADRE_ISA {
namespace {

int64_t at_least_one(int64_t count) { return count < 1 ? 1 : count; }
int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// A prefetch may touch what a load may not: past the last row.
void prefetch_row(const float* begin, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) __builtin_prefetch(begin + i, 0, 3);
}

// Where a band stands.
class Position {
 public:
  Position(const WeightGradientArguments& arguments, const TileSplit& split)
      : arguments_(&arguments), split_(&split), passes_((arguments.rows + kGradientRows - 1) / kGradientRows) {
    enter_pass();
  }

  bool done() const { return pass_ == passes_; }
  bool first_of_chunk() const { return first_tile_ == 0; }
  void advance() {
    first_tile_ = last_tile();
    if (first_tile_ < split_->count()) return;
    first_tile_ = 0;
    column_ += chunk_;
    if (column_ < arguments_->column_end) return;
    ++pass_;
    if (!done()) enter_pass();
  }

  int64_t rows() const { return rows_; }
  int64_t first_tile() const { return first_tile_; }
  int64_t last_tile() const { return smaller(first_tile_ + band_, split_->count()); }
  int64_t column() const { return column_; }
  int64_t width() const { return smaller(chunk_, arguments_->column_end - column_); }
  int64_t panels() const { return (width() + kPanelWidth - 1) / kPanelWidth; }
  int64_t panel_elements() const { return rows_ * kPanelWidth + kGap; }
  int64_t tile_elements() const { return rows_ * kColumnStride + kGap; }
  bool accumulate() const { return arguments_->accumulate || pass_ > 0; }
  const float* x() const { return arguments_->x + row_ * arguments_->x_stride + column_; }
  const float* dy() const {
    return arguments_->dy + row_ * arguments_->dy_stride + arguments_->row_begin + split_->begin(first_tile_);
  }
  float* dw(int64_t tile) const {
    return arguments_->dw + (arguments_->row_begin + split_->begin(tile)) * arguments_->dw_stride + column_;
  }

 private:
  void enter_pass() {
    row_ = arguments_->rows * pass_ / passes_;
    rows_ = arguments_->rows * (pass_ + 1) / passes_ - row_;
    chunk_ = at_least_one(kChunkFloats / (rows_ * kPanelWidth)) * kPanelWidth;
    band_ = at_least_one(kBandFloats / (rows_ * kColumnStride));
    column_ = arguments_->column_begin;
  }

  const WeightGradientArguments* arguments_;
  const TileSplit* split_;
  int64_t passes_;
  int64_t pass_ = 0;
  int64_t row_ = 0;
  int64_t rows_ = 0;
  int64_t chunk_ = 0;  // columns
  int64_t band_ = 0;   // tiles
  int64_t column_ = 0;
  int64_t first_tile_ = 0;
};

// Columns of x as panels; a short panel is filled with zeros.
void pack_panels(const Position& position, int64_t x_stride, float* to) {
  constexpr int64_t kAhead = 12;
  const int64_t whole = position.width() / kPanelWidth;
  const int64_t rest = position.width() % kPanelWidth;
  const int64_t panel_elements = position.panel_elements();
  for (int64_t p = 0; p < position.rows(); ++p) {
    const float* row = position.x() + p * x_stride;
    prefetch_row(row + kAhead * x_stride, position.width());
    float* line = to + p * kPanelWidth;
    for (int64_t panel = 0; panel < whole; ++panel, row += kPanelWidth, line += panel_elements) {
      store(line, load(row));
      store(line + kWidth, load(row + kWidth));
    }
    if (rest > 0) {
      store(line, load_partial(row, smaller(rest, kWidth)));
      store(line + kWidth, rest > kWidth ? load_partial(row + kWidth, rest - kWidth) : zero());
    }
  }
}

// Packs one band's dy into tiles, lines of kColumnStride, in `steps` steps or fewer.
class BandPacker {
 public:
  BandPacker(const Position& position, const TileSplit& split, int64_t dy_stride, float* to, int64_t steps)
      : split_(&split),
        first_(position.first_tile()),
        last_(position.last_tile()),
        row_(position.dy()),
        stride_(dy_stride),
        to_(to),
        tile_elements_(position.tile_elements()),
        left_(position.rows()),
        each_((position.rows() + steps - 1) / steps),
        width_(split.begin(last_) - split.begin(first_)),
        strip_(split.begin(split.count()) - split.begin(first_)) {}

  void step() {
    const int64_t count = smaller(each_, left_);
    for (int64_t i = 0; i < count; ++i) {
      prefetch_row(row_ + each_ * stride_, width_);  // for the next step
      pack_row();
      row_ += stride_;
      to_ += kColumnStride;
    }
    left_ -= count;
  }
  void finish() {
    each_ = smaller(each_, 8);
    while (left_ > 0) step();
  }

 private:
  // A line's lanes past its tile are read by no one, so whole lines are copied while they end inside the strip.
  void pack_row() const {
    const float* from = row_;
    const float* const last_whole = row_ + strip_ - kColumnStride;
    float* line = to_;
    for (int64_t tile = first_; tile < last_; ++tile, line += tile_elements_) {
      const int64_t height = split_->height(tile);
      if (from <= last_whole) {
        for (int64_t lane = 0; lane < kColumnStride; lane += kWidth) store(line + lane, load(from + lane));
      } else {
        for (int64_t lane = 0; lane < height; lane += kWidth) {
          store(line + lane, load_partial(from + lane, smaller(height - lane, kWidth)));
        }
      }
      from += height;
    }
  }

  const TileSplit* split_;
  int64_t first_;
  int64_t last_;
  const float* row_;
  int64_t stride_;
  float* to_;
  int64_t tile_elements_;
  int64_t left_;
  int64_t each_;
  int64_t width_;
  int64_t strip_;  // elements of a row from the band's first to the end of the strip
};

// Multiplies one packed band with the packed chunk.
void multiply_band(const Position& position, const TileSplit& split, const TilePair& functions, int64_t dw_stride,
                   const float* panels, const float* tiles, BandPacker* packer) {
  for (int64_t panel = 0; panel < position.panels(); ++panel) {
    const int64_t column = panel * kPanelWidth;
    Tile tile{tiles,
              0,
              panels + panel * position.panel_elements(),
              position.rows(),
              position.dw(position.first_tile()) + column,
              dw_stride,
              smaller(position.width() - column, kPanelWidth),
              position.accumulate()};
    for (int64_t i = position.first_tile(); i < position.last_tile(); ++i) {
      if (packer != nullptr) packer->step();
      functions.of(split.height(i))(tile);
      tile.a += position.tile_elements();
      tile.out += split.height(i) * dw_stride;
    }
  }
}

}  // namespace

void weight_gradient(const WeightGradientArguments& arguments) {
  const TileSplit split(arguments.row_end - arguments.row_begin);
  const TilePair functions(tile_function<Layout::kColumns, false>, split);
  float* const panels = arguments.scratch;
  float* bands[2] = {panels + kPanelScratch, panels + kPanelScratch + kBandScratch};
  Position position(arguments, split);
  BandPacker(position, split, arguments.dy_stride, bands[0], position.rows()).finish();
  for (int64_t i = 0; !position.done(); ++i) {
    if (position.first_of_chunk()) pack_panels(position, arguments.x_stride, panels);
    Position next = position;
    next.advance();
    const int64_t steps = (position.last_tile() - position.first_tile()) * position.panels();
    if (next.done()) {
      multiply_band(position, split, functions, arguments.dw_stride, panels, bands[i % 2], nullptr);
    } else {
      BandPacker packer(next, split, arguments.dy_stride, bands[(i + 1) % 2], steps);
      multiply_band(position, split, functions, arguments.dw_stride, panels, bands[i % 2], &packer);
      packer.finish();
    }
    position = next;
  }
}

}  // namespace cadre::cpu::CADRE_ISA
