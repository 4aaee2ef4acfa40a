# SPDX-License-Identifier: GPL-2.0-only
#
# From a System.map, what symbols.c takes from one: the data that the module looks up,
# and some to tell by whose map it is. A name that stands twice is nobody's.
BEGIN {
	split("unmounted mount_lock delayed_fput_work delayed_mntput_work mntns_operations", needed)
	split("free_ipc_work net_cleanup_work __start_BTF __stop_BTF kallsyms_lookup_name " \
	      "init_pid_ns init_user_ns init_uts_ns cleanup_net inc_ucount " \
	      "namespace_unlock", others)
	for (i in needed)
		wanted[needed[i]]
	for (i in others)
		wanted[others[i]]
}

$3 in wanted {
	address[$3] = $1
	found[$3]++
}

END {
	for (i in needed) {
		if (found[needed[i]] == 1)
			continue
		print "nsproxy_defer: " FILENAME " does not tell where " needed[i] \
			" is; Debian has the whole System.map in linux-image-...-dbg, not in /boot" >"/dev/stderr"
		exit 1
	}
	for (name in address)
		if (found[name] == 1)
			printf "\t{ \"%s\", 0x%s },\n", name, address[name]
}
