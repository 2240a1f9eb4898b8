#pragma once
// A layout come alive: this rank's communicator along each axis.

#include <array>
#include <functional>
#include <memory>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/comm/exposed_time.h"
#include "parallel/mesh/layout.h"

namespace cadre::parallel {

class Mesh {
 public:
  // What stands in for an axis' communicator: itself, or something around it that watches or disturbs.
  using Wrap = std::function<std::unique_ptr<Communicator>(Axis, std::unique_ptr<Communicator>)>;

  // Collective over `world`, which has layout.ranks() ranks and must outlive the mesh.
  Mesh(Communicator& world, const Layout& layout, const Wrap& wrap = {});

  const Layout& layout() const { return layout_; }
  const Coordinates& here() const { return here_; }
  Communicator& world() const { return world_; }
  // The ranks that differ from this one along the axis only, in ascending order.
  Communicator& along(Axis axis) const;
  // That this rank has spent in exchanges along the axes.
  ExposedTime& exposed_time() { return exposed_; }
  // Rows of this rank that ranks of its expert group computed, by rank, since somebody cleared it; empty: none.
  std::vector<int64_t>& dispatched_rows() { return rows_; }
  const std::vector<int64_t>& dispatched_rows() const { return rows_; }

 private:
  static constexpr Axis kAxes[] = {Axis::kData, Axis::kPipeline, Axis::kExpert, Axis::kExpertData, Axis::kEmbedding};

  Communicator& world_;
  Layout layout_;
  Coordinates here_;
  ExposedTime exposed_;
  std::vector<int64_t> rows_;
  std::array<std::unique_ptr<Communicator>, std::size(kAxes)> groups_;
};

}  // namespace cadre::parallel
