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

// A copy of the block's rows, and one panel.
int64_t multiply_scratch(int64_t k) { return row_block(k) * (k + kCopyPadding) + k * kPanelWidth; }

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

// The tile functions for rows of A with each kind of panel.
struct Functions {
  TilePair near, near_and_next, far, pack;
  explicit Functions(const TileSplit& split)
      : near(tile_function<Left::kRows, Right::kPanel>, split),
        near_and_next(tile_function<Left::kRows, Right::kPanelAndNext>, split),
        far(tile_function<Left::kRows, Right::kFarPanel>, split),
        pack(tile_function<Left::kRows, Right::kPackPanel>, split) {}
};

// A block of rows, copied when its rows would drive each other out of the cache.
struct Block {
  const float* a;
  int64_t stride;
  TileSplit split;

  explicit Block(const MultiplyArguments& arguments)
      : a(arguments.a), stride(arguments.a_stride), split(arguments.rows) {
    if (stride * 4 % kAliasBytes != 0 || arguments.rows <= 4) return;
    copy_rows(a, stride, arguments.rows, arguments.k, arguments.scratch, arguments.k + kCopyPadding);
    a = arguments.scratch;
    stride = arguments.k + kCopyPadding;
  }
};

Tile first_tile(const MultiplyArguments& arguments, const Block& block, int64_t column) {
  const int64_t rest = arguments.n - column;
  Tile tile{};
  tile.a = block.a;
  tile.a_stride = block.stride;
  tile.k = arguments.k;
  tile.out = arguments.out + column;
  tile.out_stride = arguments.out_stride;
  tile.columns = rest < kPanelWidth ? rest : kPanelWidth;
  tile.accumulate = arguments.accumulate;
  return tile;
}

// The tiles of one panel; `first` is the function of the topmost.
void multiply_panel(const MultiplyArguments& arguments, const Block& block, Tile tile, const TilePair& first,
                    const TilePair& others, const float* panel) {
  const TileSplit& split = block.split;
  const float* const next_panel = panel + arguments.k * kPanelWidth;
  tile.next_b_step = (kPanelWidth + split.count() - 1) / split.count();
  float* const next_column = tile.out + kPanelWidth;
  for (int64_t i = 0; i < split.count(); ++i) {
    const int64_t height = split.height(i);
    tile.next_out = i + 1 < split.count() ? tile.out + height * tile.out_stride : next_column;
    tile.next_b = next_panel + i * tile.k * tile.next_b_step;
    (i == 0 ? first : others).of(height)(tile);
    tile.b = panel;
    tile.a += height * tile.a_stride;
    tile.out += height * tile.out_stride;
  }
}

// The first tile of a panel brings it from afar, the others find it in the cache; or all share the next one's fetching.
void multiply_packed(const MultiplyArguments& arguments, const Block& block, const Functions& functions) {
  const int64_t panel_floats = arguments.k * kPanelWidth, tiles = block.split.count();
  const bool spread = tiles > 1 && tiles <= kMostSpread && panel_floats <= kSpreadFloats;
  const TilePair& others = spread ? functions.near_and_next : functions.near;
  for (int64_t index = arguments.panel_begin; index < arguments.panel_end; ++index) {
    Tile tile = first_tile(arguments, block, index * kPanelWidth);
    const float* const panel = arguments.panels + index * panel_floats;
    tile.b = panel;
    const bool near = spread && index > arguments.panel_begin;
    multiply_panel(arguments, block, tile, near ? others : functions.far, others, panel);
  }
}

// The first tile packs the panel in passing.
void multiply_matrix(const MultiplyArguments& arguments, const Block& block, const Functions& functions) {
  float* const panel = arguments.scratch + row_block(arguments.k) * (arguments.k + kCopyPadding);
  for (int64_t index = arguments.panel_begin; index < arguments.panel_end; ++index) {
    const float* const matrix = arguments.matrix + index * kPanelWidth;
    Tile tile = first_tile(arguments, block, index * kPanelWidth);
    const bool whole = tile.columns == kPanelWidth;
    if (!whole) pack_narrow_panel(matrix, arguments.matrix_stride, arguments.k, tile.columns, panel);
    tile.b = whole ? matrix : panel;
    tile.b_stride = arguments.matrix_stride;
    tile.packed_b = panel;
    multiply_panel(arguments, block, tile, whole ? functions.pack : functions.near, functions.near, panel);
  }
}

void multiply(const MultiplyArguments& arguments) {
  const Block block(arguments);
  const Functions functions(block.split);
  (arguments.panels != nullptr ? multiply_packed : multiply_matrix)(arguments, block, functions);
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
