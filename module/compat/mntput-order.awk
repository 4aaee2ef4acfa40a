# SPDX-License-Identifier: GPL-2.0-only
#
# Is a kernel such that a count of one is exact? That takes two fixes of Linux 4.18, which
# stable kernels got, too: mntput() looks at mnt_ns first and decrements then, and a path
# walk that got a mount asks whether it is doomed. Says of fs/namespace.c what is not so.
/^[a-z].*[ *]mntput_no_expire\([^;]*$/ { place = "put" }
/^[a-z].*[ *]__legitimize_mnt\([^;]*$/ { place = "walk" }
/^}/ { place = "" }
place == "put" && !order && /mnt_ns\)/ { order = "right" }
place == "put" && !order && /mnt_(add|dec)_count|this_cpu/ { order = "wrong" }
place == "walk" && /MNT_DOOMED/ { asks = 1 }
END {
	if (order != "right")
		print "mntput() does not look at mnt_ns before it decrements, which takes 9ea0a46ca2c3"
	else if (!asks)
		print "a path walk does not see that a mount is doomed, which takes 119e1ef80ecf"
}
