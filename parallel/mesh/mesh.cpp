#include "parallel/mesh/mesh.h"

#include <fmt/core.h>

#include "core/error.h"

namespace cadre::parallel {

Mesh::Mesh(Communicator& world, const Layout& layout, const Wrap& wrap)
    : world_(world), layout_(layout), here_(coordinates_of(layout, world.rank())) {
  if (layout.ranks() != world.size()) {
    throw InternalError(fmt::format("a mesh of {} over {} ranks", layout.to_string(), world.size()));
  }
  for (size_t i = 0; i < groups_.size(); ++i) {
    const int color = group_of(layout, kAxes[i], world.rank()).front();
    groups_[i] = world.split(color, world.rank(), name_of(kAxes[i]));
    if (wrap) groups_[i] = wrap(kAxes[i], std::move(groups_[i]));
  }
}

Communicator& Mesh::along(Axis axis) const {
  for (size_t i = 0; i < groups_.size(); ++i) {
    if (kAxes[i] == axis) return *groups_[i];
  }
  return world_;
}

}  // namespace cadre::parallel
