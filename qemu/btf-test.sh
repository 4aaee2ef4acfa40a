#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Does the module's reader of BTF find what is there, and refuse what cannot be?
# On BTF that btf-test.c makes and on that of each stock kernel in the cache. Says
# where it finds the members, and what is wrong, one line each.

# shellcheck source=qemu/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT
FAILED=0

need_packages gcc libc6-dev binutils
"${CC:-gcc}" -std=gnu11 -Wall -Wextra -Werror -O2 -g -fsanitize=address,undefined \
	-fno-sanitize-recover=all -o "$SCRATCH/btf-test" "$QEMU_DIR/btf-test.c"
# It frees what it takes; what is looked for is an access out of bounds.
export ASAN_OPTIONS=detect_leaks=0

# on_kernel FOLDER: the whole of a stock kernel's BTF, from its image.
on_kernel() {
	local name=${1##*/} image
	local vmlinux=$SCRATCH/$name.vmlinux
	image=$(find "$1" -name 'vmlinuz*' -type f -print -quit)
	[[ -n $image ]] || {
		echo "$name: no image in $1"
		return 1
	}
	"$EXTRACT" "$image" >"$vmlinux" || return 1
	objcopy -O binary --only-section=.BTF "$vmlinux" "$SCRATCH/$name.btf" || return 1
	rm "$vmlinux"
	"$SCRATCH/btf-test" "$name" "$SCRATCH/$name.btf"
}

"$SCRATCH/btf-test" || FAILED=1

shopt -s nullglob
# An image for arm64 has no vmlinux in it.
KERNELS=("$CACHE"/stock/*-amd64/release)
EXTRACT=$CACHE/src/linux-source-6.1/scripts/extract-vmlinux
if ((${#KERNELS[@]} == 0)) || [[ ! -x $EXTRACT ]]; then
	echo "SKIP stock kernels: $CACHE has none, or no linux-source-6.1 to extract BTF with"
	exit "$FAILED"
fi
# What their images are compressed with.
need_packages xz-utils lz4 zstd
PIDS=()
for kernel in "${KERNELS[@]%/release}"; do
	while (($(jobs -rp | wc -l) >= JOBS)); do
		wait -n || FAILED=1
	done
	on_kernel "$kernel" >"$SCRATCH/${kernel##*/}.log" 2>&1 &
	PIDS+=($!)
done
for pid in "${PIDS[@]}"; do
	wait "$pid" || FAILED=1
done
cat "$SCRATCH"/*.log
exit "$FAILED"
