# SPDX-License-Identifier: GPL-2.0-only
#
# What this kernel's headers have, asked of the headers themselves: vendors
# carry features across versions in both directions.

nsd-comma := ,
nsd-grep = $(shell grep -qsE '$(2)' $(srctree)/include/linux/$(1) && echo -D$(3))

# The ftrace callback is given struct ftrace_regs (5.11), not struct pt_regs.
ccflags-y += $(call nsd-grep,ftrace.h,^\s*struct ftrace_ops \*op$(nsd-comma) struct ftrace_regs,NSD_HAVE_FTRACE_REGS)
# ... which is opaque (6.13), with an accessor for those who must look.
ccflags-y += $(if $(shell grep -rls arch_ftrace_regs $(srctree)/arch/$(SRCARCH)/include/asm/ftrace.h),-DNSD_HAVE_ARCH_FTRACE_REGS)
# call_rcu() may be lazy (6.2).
ccflags-y += $(call nsd-grep,rcupdate.h,call_rcu_hurry,NSD_HAVE_CALL_RCU_HURRY)
# sysfs is built on kernfs (3.14).
ccflags-y += $(call nsd-grep,kernfs.h,kernfs_find_and_get,NSD_HAVE_KERNFS)
# ftrace wants to be told of redirects (3.19), and can be told to stay (5.5).
ccflags-y += $(call nsd-grep,ftrace.h,FTRACE_OPS_FL_IPMODIFY,NSD_HAVE_FTRACE_IPMODIFY)
ccflags-y += $(call nsd-grep,ftrace.h,FTRACE_OPS_FL_PERMANENT,NSD_HAVE_FTRACE_PERMANENT)
# 3.17.
ccflags-y += $(call nsd-grep,module.h,bool within_module\b,NSD_HAVE_WITHIN_MODULE)
# SRCU up to 4.11.
ccflags-y += $(call nsd-grep,srcu.h,struct delayed_work work;,NSD_HAVE_SRCU_WORK)
# A wait for tasks that were preempted in code that is to go (3.18). Up to 4.10 it is
# declared where it is not built, too, and has no other name there.
nsd-rcu-tasks := $(if $(CONFIG_TASKS_RCU)$(call nsd-grep,rcupdate.h,define synchronize_rcu_tasks,y),-DNSD_HAVE_RCU_TASKS)
ccflags-y += $(nsd-rcu-tasks)

# A superblock's mounts are a list (up to 6.17), a chain of plain pointers later.
ccflags-y += $(if $(shell grep -rlsE '^\s*struct list_head\s+s_mounts;' $(srctree)/include/linux/fs.h $(srctree)/include/linux/fs/),-DNSD_HAVE_SB_MOUNT_LIST)
# struct fs_struct has a seqlock_t (since 6.17), or a spinlock and a counter.
ccflags-y += $(call nsd-grep,fs_struct.h,^\s*seqlock_t seq;,NSD_HAVE_FS_SEQLOCK)

# What unmounted mounts are kept together by is a pin (4.1 to 5.2), or no more than a node.
nsd-umount-pin := $(call nsd-grep,fs_pin.h,pin_insert_group,NSD_HAVE_UMOUNT_PIN)
ccflags-y += $(nsd-umount-pin)
# ->free_inode() is apart from ->destroy_inode() (5.2).
ccflags-y += $(call nsd-grep,fs.h,\(\*free_inode\),NSD_HAVE_FREE_INODE)
# What folds case is known to the superblock (5.9), or to the file system.
ccflags-y += $(if $(shell grep -rls 's_encoding;' $(srctree)/include/linux/fs.h $(srctree)/include/linux/fs/),-DNSD_HAVE_SB_ENCODING)
# RCU has readers of several kinds (up to 4.19).
ccflags-y += $(call nsd-grep,rcupdate.h,^void synchronize_sched\(void\),NSD_HAVE_RCU_SCHED)
# 4.11, both.
ccflags-y += $(if $(wildcard $(srctree)/include/linux/sched/signal.h),-DNSD_HAVE_SCHED_SIGNAL)
ccflags-y += $(if $(wildcard $(srctree)/include/linux/refcount.h),-DNSD_HAVE_REFCOUNT)
# Time namespaces (5.6) are counted last.
ccflags-y += $(call nsd-grep,user_namespace.h,UCOUNT_TIME_NAMESPACES,NSD_HAVE_UCOUNT_TIME)
# A function (5.0), or a variable.
ccflags-y += $(call nsd-grep,mm.h,totalram_pages\(void\),NSD_HAVE_TOTALRAM_PAGES)
# It was called probe_kernel_read() (up to 5.7).
ccflags-y += $(call nsd-grep,uaccess.h,define get_kernel_nofault,NSD_HAVE_KERNEL_NOFAULT)
# How to notify is an enum (5.10), or yes or no.
ccflags-y += $(call nsd-grep,task_work.h,TWA_RESUME,NSD_HAVE_TWA_RESUME)
# 5.0.
ccflags-y += $(if $(shell grep -s regs_get_kernel_argument $(srctree)/arch/$(SRCARCH)/include/asm/ptrace.h),-DNSD_HAVE_KERNEL_ARGUMENT)

# How many objects are watched (5.15, and 5.10.y; up to 6.8); later that is in a structure
# which is there if there ever was one. What was called s_fsnotify_inode_refs counts others.
ccflags-y += $(call nsd-grep,fs.h,s_fsnotify_connectors;,NSD_HAVE_SB_CONNECTORS)
ccflags-y += $(if $(shell grep -rls 's_fsnotify_info;' $(srctree)/include/linux/fs.h $(srctree)/include/linux/fs/),-DNSD_HAVE_SB_FSNOTIFY_INFO)

# A kernel may carry BTF of itself, of these kinds (5.2).
nsd-btf := $(if $(shell grep -s BTF_KIND_DATASEC $(srctree)/include/uapi/linux/btf.h),-DNSD_HAVE_BTF)
ccflags-y += $(nsd-btf)

# struct mount itself, where KDIR is or belongs to a full source tree.
nsd-mount-h := $(wildcard $(srctree)/fs/mount.h)
ifneq ($(nsd-mount-h),)
ccflags-y += -DNSD_HAVE_MOUNT_H
nsd-grep-mount = $(shell grep -qsE '$(1)' $(nsd-mount-h) && echo -D$(2))
ccflags-y += $(call nsd-grep-mount,struct rb_node mnt_node;,NSD_HAVE_MNT_NODE)
ccflags-y += $(call nsd-grep-mount,struct hlist_head mnt_covers;,NSD_HAVE_MNT_COVERS)
ccflags-y += $(call nsd-grep-mount,unsigned int mnt_gets;,NSD_HAVE_MNT_GETS)
ccflags-y += $(call nsd-grep-mount,refcount_t\s+passive;,NSD_HAVE_MNT_NS_PASSIVE)
endif

# Class L: other tasks read an nsproxy under RCU (up to 3.16). A vendor may have
# brought task_lock() to an older version, and the accessor went with RCU.
nsd-class := $(if $(call nsd-grep,nsproxy.h,task_nsproxy,y),l,m)
$(if $(call nsd-grep,ftrace.h,FTRACE_OPS_FL_SAVE_REGS,y),,$(error nsproxy_defer: the module is for Linux 3.10 and later))
# Where setns() does not wait, the module counts the references of mounts, which has to be
# exact. Headers alone do not tell, but a kernel that is built without its sources tells the
# layout of struct mount by BTF, or else the module does not load; and BTF is younger.
ifeq ($(nsd-class),m)
nsd-namespace-c := $(wildcard $(srctree)/fs/namespace.c)
# What namespace_unlock() waits by: a full grace period, up to 4.20.
ccflags-y += $(if $(nsd-namespace-c),$(if $(shell grep -s synchronize_rcu_expedited $(nsd-namespace-c)),,-DNSD_HAVE_FULL_GP))
nsd-inexact := $(if $(call nsd-grep,user_namespace.h,UCOUNT_MNT_NAMESPACES,y),$(if $(nsd-namespace-c),$(shell awk -f $(src)/module/compat/mntput-order.awk $(nsd-namespace-c))),it is older than Linux 4.9 and has the setns() of 3.17)
ifneq ($(nsd-inexact),)
$(error nsproxy_defer: the module cannot count who holds a mount of this kernel: $(nsd-inexact))
endif
endif
