#!/bin/sh
# run.sh FILE.h5 config.json DIRECTORY: in the container, with the challenge's 8 processors and 16 GB.
set -eu
input=$(realpath "$1") description=$(realpath "$2")
mkdir -p "$3"
exec docker run --rm --cpuset-cpus=0-7 --memory=16g --memory-swap=16g --network=none \
    --user "$(id -u):$(id -g)" \
    --volume "$(dirname "$input"):/input:ro" --volume "$(dirname "$description"):/task:ro" \
    --volume "$(realpath "$3"):/output" \
    lshjoin-sisap --input "/input/$(basename "$input")" \
    --task-description "/task/$(basename "$description")" --output /output
