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
# A wait for tasks that were preempted in code that is to go (3.18).
nsd-rcu-tasks := $(call nsd-grep,rcupdate.h,synchronize_rcu_tasks,NSD_HAVE_RCU_TASKS)
ccflags-y += $(nsd-rcu-tasks)

# A superblock's mounts are a list (up to 6.17), a chain of plain pointers later.
ccflags-y += $(if $(shell grep -rlsE '^\s*struct list_head\s+s_mounts;' $(srctree)/include/linux/fs.h $(srctree)/include/linux/fs/),-DNSD_HAVE_SB_MOUNT_LIST)
# struct fs_struct has a seqlock_t (since 6.18), or a spinlock and a counter.
ccflags-y += $(call nsd-grep,fs_struct.h,^\s*seqlock_t seq;,NSD_HAVE_FS_SEQLOCK)

# How many inodes are watched (up to 5.15), or how many objects of all kinds (6.9);
# later that is in a structure which is there if there ever was one.
ccflags-y += $(call nsd-grep,fs.h,s_fsnotify_inode_refs;,NSD_HAVE_SB_INODE_REFS)
ccflags-y += $(call nsd-grep,fs.h,s_fsnotify_connectors;,NSD_HAVE_SB_CONNECTORS)
ccflags-y += $(if $(shell grep -rls 's_fsnotify_info;' $(srctree)/include/linux/fs.h $(srctree)/include/linux/fs/),-DNSD_HAVE_SB_FSNOTIFY_INFO)

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
# Of those whose readers hold task_lock() the module knows the ones since 5.10.
ifeq ($(nsd-class)$(wildcard $(srctree)/include/linux/rcupdate_wait.h),m)
$(error nsproxy_defer: setns() does not wait for RCU on this kernel; of such kernels the module is for those since 5.10, and this one is older)
endif
