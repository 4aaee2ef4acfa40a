# SPDX-License-Identifier: GPL-2.0-only
#
# make            build nsproxy_defer.ko for the running kernel, or for KDIR=
# make demo       show, under QEMU, what the module does to stock kernels
# make bench      measure what many namespaces cost, until all are gone
# make check      run the tests, under QEMU
# make waits      say which tasks of this machine wait for grace periods
# make help       the rest

KDIR ?= /lib/modules/$(shell uname -r)/build
# The out-of-tree build is W=1 clean, and stays so.
W ?= 1

.DEFAULT_GOAL := modules

modules: kdir
	$(MAKE) -C $(KDIR) M=$(CURDIR) W=$(W) modules

kdir:
	@test -e $(KDIR)/Makefile || { \
		echo "nsproxy_defer: no kernel build folder at $(KDIR): install the linux-headers package of your kernel ($$(uname -r)), or give KDIR=/path/to/build" >&2; \
		exit 1; }

install: modules
	$(MAKE) -C $(KDIR) M=$(CURDIR) modules_install

clean:
	@if test -e $(KDIR)/Makefile; then \
		$(MAKE) -C $(KDIR) M=$(CURDIR) clean; \
	else \
		find . -name out -prune -o \( -name '*.o' -o -name '*.ko' -o -name '*.mod' -o -name '*.mod.c' -o -name '.*.cmd' \) -exec rm -f {} +; \
		rm -f Module.symvers modules.order; \
	fi

# SECONDS is a variable of the shell's own.
waits:
	@tools/nsproxy-waits $(if $(RUN),-- $(RUN),$(or $(FOR),10))

demo:
	@qemu/demo.sh

bench:
	@qemu/bench.sh

check:
	@qemu/check.sh

check-all:
	@qemu/check.sh --all

check-controls:
	@qemu/check.sh --controls

check-packages:
	@qemu/packages.sh --check

deb:
	@qemu/packages.sh

matrix:
	@qemu/matrix.sh $(RUNS)

series:
	@qemu/series.sh

trees:
	@qemu/trees.sh $(RUNS)

patch:
	@qemu/patch.sh

litmus:
	@qemu/litmus.sh

model:
	@qemu/model.sh

lint:
	@qemu/lint.sh

help:
	@echo 'make                 build nsproxy_defer.ko against KDIR ($(KDIR))'
	@echo 'make install         install it below /lib/modules (INSTALL_MOD_PATH= goes before)'
	@echo 'make deb             build Debian packages, for DKMS, into out/deb'
	@echo 'make clean           remove what make built'
	@echo 'make waits           say which tasks wait for grace periods here, in 10 seconds or FOR=60, or in RUN="podman run ..."'
	@echo 'make demo            measure stock kernels with and without the module, under QEMU'
	@echo 'make bench           measure what many namespaces cost until all are gone; BENCH="rt cloud" picks, see Documentation/bench.rst'
	@echo 'make check           run the tests under QEMU; SCENARIOS="UP DEBUG" picks, KERNEL=6.12 another line'
	@echo 'make check TREE=/path/to/linux'
	@echo '                     the same on that kernel tree: as it is, with the module, and patched; so does make demo'
	@echo 'make check-controls  run the negative controls: each must turn the verdict red'
	@echo 'make check-all       nearly every scenario, more kernel lines, arm64, and the packages'
	@echo 'make check-packages  install, update and purge the Debian packages in a guest that is a Debian 12'
	@echo 'make matrix          which row of the promise held in the runs of out/check, or in RUNS="/path ..."'
	@echo 'make series KERNEL=6.1'
	@echo '                     compose the patch series of that line, in OUT=/path or out/series/linux-6.1.y'
	@echo 'make patch TREE=/path/to/linux'
	@echo '                     patch a copy of that kernel tree, DEST=/path; INPLACE=1 patches the tree itself'
	@echo 'make trees           what make patch and make check found in the trees they were given, as a table'
	@echo 'make litmus          ask the kernel memory model for each ordering that the code relies on; KERNEL=7.2 takes that of another line'
	@echo 'make model           search every order of the steps, with spin: the protocol holds, and broken it does not'
	@echo 'make lint            checkpatch, sparse, W=1, shellcheck, manual pages, dkms.conf, the patches; STEPS=/path/to/linux compiles each step'

.PHONY: modules kdir install clean waits deb demo bench check check-all check-controls check-packages matrix series trees patch litmus model lint help
