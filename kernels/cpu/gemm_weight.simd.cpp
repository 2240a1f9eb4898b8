#include "kernels/cpu/gemm_parts.h"

// dw = dy^T x is cut three ways: passes over rows of the batch, chunks of columns (x packed into panels that stay in
// the L2 cache), tiles of dw rows (a tile of dy stays in the L1 cache while the panels pass, and writes whole rows of
// dw). Nothing is packed ahead: the first tile packs the panels in passing, the first panel packs the tile, so that
// those stores, and the misses on dy and x, whose rows may lie a page apart, hide behind arithmetic.

namespace cadre::cpu::CADRE_ISA {
namespace {

// With so few rows the writing of dw takes longer than the arithmetic, and past the caches it takes half the traffic.
constexpr int64_t kFewRows = 32;

// The tile functions for an operand that is packed already or is being packed.
class Functions {
 public:
  explicit Functions(const TileSplit& split)
      : pairs_{{{tile_function<Left::kColumns, Right::kPanel>, split},
                {tile_function<Left::kColumns, Right::kPackPanel>, split}},
               {{tile_function<Left::kPackColumns, Right::kPanel>, split},
                {tile_function<Left::kPackColumns, Right::kPackPanel>, split}}} {}
  TileFunction of(bool pack_columns, bool pack_panel, int64_t height) const {
    return pairs_[pack_columns][pack_panel].of(height);
  }

 private:
  TilePair pairs_[2][2];
};

// One pass over rows and one chunk of columns.
struct Chunk {
  int64_t row;
  int64_t rows;
  int64_t column;
  int64_t width;
  bool accumulate;

  int64_t panels() const { return (width + kPanelWidth - 1) / kPanelWidth; }
  int64_t panel_elements() const { return rows * kPanelWidth + kGap; }
};

void multiply_chunk(const WeightGradientArguments& arguments, const Chunk& chunk, const TileSplit& split,
                    const Functions& functions) {
  float* const panels = arguments.scratch;
  float* const columns = arguments.scratch + kPanelScratch;
  const float* const x = arguments.x + chunk.row * arguments.x_stride + chunk.column;
  const float* const dy = arguments.dy + chunk.row * arguments.dy_stride + arguments.row_begin;
  float* const dw = arguments.dw + arguments.row_begin * arguments.dw_stride + chunk.column;
  const bool stream_out = chunk.rows <= kFewRows && !chunk.accumulate && reinterpret_cast<uintptr_t>(dw) % 64 == 0 &&
                          arguments.dw_stride % 16 == 0;
  for (int64_t i = 0; i < split.count(); ++i) {
    const int64_t height = split.height(i);
    float* const row = dw + split.begin(i) * arguments.dw_stride;
    for (int64_t panel = 0; panel < chunk.panels(); ++panel) {
      const int64_t column = panel * kPanelWidth;
      const int64_t rest = chunk.width - column;
      float* const packed = panels + panel * chunk.panel_elements();
      const bool fresh_tile = panel == 0;
      const bool fresh_panel = i == 0 && rest >= kPanelWidth;
      if (i == 0 && !fresh_panel) pack_narrow_panel(x + column, arguments.x_stride, chunk.rows, rest, packed);
      const bool last = panel + 1 == chunk.panels();
      const Tile tile{.a = fresh_tile ? dy + split.begin(i) : columns,
                      .a_stride = fresh_tile ? arguments.dy_stride : kColumnStride,
                      .b = fresh_panel ? x + column : packed,
                      .b_stride = arguments.x_stride,
                      .k = chunk.rows,
                      .out = row + column,
                      .out_stride = arguments.dw_stride,
                      .columns = rest < kPanelWidth ? rest : kPanelWidth,
                      .accumulate = chunk.accumulate,
                      .stream_out = stream_out,
                      .next_b = nullptr,
                      .next_b_step = 0,
                      .next_out = last ? row + height * arguments.dw_stride : row + column + kPanelWidth,
                      .packed_a = columns,
                      .packed_b = packed};
      functions.of(fresh_tile, fresh_panel, height)(tile);
    }
  }
  if (stream_out) store_fence();
}

}  // namespace

void weight_gradient(const WeightGradientArguments& arguments) {
  const TileSplit split(arguments.row_end - arguments.row_begin);
  const Functions functions(split);
  const int64_t passes = (arguments.rows + kGradientRows - 1) / kGradientRows;
  const int64_t width = arguments.column_end - arguments.column_begin;
  for (int64_t pass = 0; pass < passes; ++pass) {
    const int64_t row = arguments.rows * pass / passes;
    const int64_t rows = arguments.rows * (pass + 1) / passes - row;
    const int64_t most = kChunkFloats / (rows * kPanelWidth);
    const int64_t panels = (width + kPanelWidth - 1) / kPanelWidth;
    const int64_t chunks = (panels + most - 1) / most;
    for (int64_t i = 0; i < chunks; ++i) {
      const int64_t begin = panels * i / chunks * kPanelWidth;
      const int64_t end = panels * (i + 1) / chunks * kPanelWidth;
      const Chunk chunk{row, rows, arguments.column_begin + begin, (end < width ? end : width) - begin,
                        arguments.accumulate || pass > 0};
      multiply_chunk(arguments, chunk, split, functions);
    }
  }
}

}  // namespace cadre::cpu::CADRE_ISA
