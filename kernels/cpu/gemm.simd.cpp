#include "kernels/cpu/gemm.h"

#include "kernels/cpu/gemm_parts.h"

namespace cadre::cpu::CADRE_ISA {
namespace {

// The block's rows of A stay in less than half of a 1-MB L2 cache while every panel passes.
constexpr int64_t kBlockFloats = 96 * 1024;
constexpr int64_t kLeastTiles = 5;
constexpr int64_t kMostTiles = 40;

int64_t row_block(int64_t k) {
  const int64_t tiles = kBlockFloats / (k * kTileRows + 1);
  return (tiles < kLeastTiles ? kLeastTiles : tiles > kMostTiles ? kMostTiles : tiles) * kTileRows;
}

// Rows that lie a multiple of this apart (bytes) fall into too few sets of the L1 cache for a tile to keep them all.
constexpr int64_t kAliasBytes = 2048;
constexpr int64_t kCopyPadding = 16;

int64_t multiply_scratch(int64_t k) { return row_block(k) * (k + kCopyPadding); }

void copy_rows(const float* from, int64_t from_stride, int64_t rows, int64_t columns, float* to, int64_t to_stride) {
  for (int64_t i = 0; i < rows; ++i) {
    const float* source = from + i * from_stride;
    float* target = to + i * to_stride;
    int64_t p = 0;
    for (; p + kWidth <= columns; p += kWidth) store(target + p, load(source + p));
    store_partial(target + p, load_partial(source + p, columns - p), columns - p);
  }
}

// Few tiles share the fetching of the next panel, so that it does not come in bursts.
constexpr int64_t kMostSpread = 4;
constexpr int64_t kSpreadFloats = 64 * 1024;  // a panel; two stand in the L2 cache

void multiply(const MultiplyArguments& arguments) {
  const float* a = arguments.a;
  int64_t a_stride = arguments.a_stride;
  if (a_stride * 4 % kAliasBytes == 0 && arguments.rows > 4) {
    copy_rows(a, a_stride, arguments.rows, arguments.k, arguments.scratch, arguments.k + kCopyPadding);
    a = arguments.scratch;
    a_stride = arguments.k + kCopyPadding;
  }
  const TileSplit split(arguments.rows);
  const TilePair far(tile_function<Left::kRows, Right::kFarPanel>, split);
  const TilePair near(tile_function<Left::kRows, Right::kPanel>, split);
  const TilePair spread(tile_function<Left::kRows, Right::kPanelAndNext>, split);
  const int64_t panel_floats = arguments.k * kPanelWidth;
  const bool spreads = split.count() > 1 && split.count() <= kMostSpread && panel_floats <= kSpreadFloats;
  for (int64_t panel = arguments.panel_begin; panel < arguments.panel_end; ++panel) {
    const int64_t column = panel * kPanelWidth;
    const int64_t rest = arguments.n - column;
    Tile tile{.a = a,
              .a_stride = a_stride,
              .b = arguments.panels + column * arguments.k,
              .b_stride = kPanelWidth,
              .k = arguments.k,
              .out = arguments.out + column,
              .out_stride = arguments.out_stride,
              .columns = rest < kPanelWidth ? rest : kPanelWidth,
              .accumulate = arguments.accumulate,
              .stream_out = false,
              .next_b = nullptr,
              .next_b_step = (kPanelWidth + split.count() - 1) / split.count(),
              .next_out = nullptr,
              .packed_a = nullptr,
              .packed_b = nullptr};
    for (int64_t i = 0; i < split.count(); ++i) {
      const int64_t height = split.height(i);
      tile.next_out =
          i + 1 < split.count() ? tile.out + height * arguments.out_stride : arguments.out + column + kPanelWidth;
      tile.next_b = tile.b + panel_floats + i * arguments.k * tile.next_b_step;
      // The first tile brings the panel from afar; the others find it in the cache.
      const bool far_away = i == 0 && (!spreads || panel == arguments.panel_begin);
      (far_away ? far : spreads ? spread : near).of(height)(tile);
      tile.a += height * a_stride;
      tile.out += height * arguments.out_stride;
    }
  }
}

}  // namespace

const GemmTable kGemmTable = {
    .panel_width = kPanelWidth,
    .row_block = row_block,
    .multiply = multiply,
    .multiply_scratch = multiply_scratch,
    .pack_as_stored = pack_as_stored,
    .pack_transposed = pack_transposed,
    .weight_gradient = weight_gradient,
    .weight_gradient_scratch = kWeightGradientScratch,
};

}  // namespace cadre::cpu::CADRE_ISA
