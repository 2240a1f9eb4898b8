#!/usr/bin/env bash
# A file includes only its own room or a lower one, and each third-party library stays in its room.
source "$(dirname "$0")/rules.sh"

sources "${rooms[@]}" | xargs -r awk '
  BEGIN {
    level["core"] = 0; level["kernels"] = 1; level["autograd"] = 2; level["data"] = 2; level["parallel"] = 3; level["model"] = 4
    level["optim"] = 5; level["launch"] = 6
    allow("MPI", "^mpi\\.h", "^parallel/comm/")
    allow("NCCL", "^nccl", "^parallel/comm/nccl")
    allow("HDF5", "^(hdf5|H5)", "^core/io/")
    allow("muParser", "^muParser", "^core/config/")
    allow("yaml-cpp", "^yaml-cpp/", "^core/config/")
    allow("Eigen", "^(Eigen/|unsupported/Eigen/)", "^kernels/reference/")
    allow("SentencePiece", "^sentencepiece", "^data/")
    allow("simdjson", "^simdjson", "^data/")
    allow("CLI11", "^CLI/", "^launch/")
    allow("prometheus-cpp", "^prometheus/", "^launch/monitor/")
    allow("CUDA", "^(cuda|cublas|cudnn|cub/|thrust/|cooperative_groups)", "^(core/cuda/|kernels/cuda/|parallel/comm/nccl)")
    allow("GoogleTest", "^(gtest|gmock)/", "^tests/")
  }
  function allow(name, header, folder) { headers[name] = header; folders[name] = folder }
  # The rooms that a room may include beyond those of a lower level: itself.
  function climbs(from, to) { return level[to] > level[from] || (level[to] == level[from] && to != from) }
  match($0, /^[ \t]*#[ \t]*include[ \t]*[<"][^>"]*/) {
    included = substr($0, RSTART, RLENGTH)
    own = included ~ /"/
    sub(/^[^<"]*[<"]/, "", included)
    from = FILENAME; sub(/\/.*/, "", from)
    to = included; sub(/\/.*/, "", to)
    where = FILENAME ":" FNR ": includes " included
    if (own && !(to in level) && included !~ /\//) print where ", which is not written room/path.h"
    if (to in level && climbs(from, to)) print where ", but " from " stands below or beside " to
    if (own && to == "tests") print where ", but the program must not need its tests"
    for (name in headers)
      if (included ~ headers[name] && FILENAME !~ folders[name]) print where ", but " name " belongs to " substr(folders[name], 2)
  }' | expect_none "includes that break the order core < kernels < autograd = data < parallel < model < optim < launch"
