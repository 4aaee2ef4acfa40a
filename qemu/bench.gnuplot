# SPDX-License-Identifier: GPL-2.0-only
#
# The pictures of one kernel, from bench.sh: what a caller waits for, and when
# all is gone. A configuration that was not measured has no line, and a picture
# without lines is not drawn.

set terminal svg size 720,480 font "sans,14" background "white"
set datafile separator tab
# Or it would cut the line of the others.
set datafile missing NaN
set key left top
set grid
set logscale y

names = "stock off expedited forced module safe all"
# Column FIELD of the rows of a configuration; nothing for all the others.
is(config) = strcol("kernel") eq kernel && strcol("cpus") eq cpus && \
	strcol("config") eq config && strcol("what") eq "alone"
has(config) = int(system(sprintf("awk -F'\t' -v k='%s' -v c='%s' -v g='%s' '$1 == k && $2 == c && $7 == g && $4 == \"unshare\"' '%s' | wc -l", \
	kernel, cpus, config, results))) > 0
present = ""
do for [name in names] { if (has(name)) { present = present . " " . name } }

if (strlen(present)) {
	set title sprintf("%s, %s CPU(s): unshare(CLONE\\_NEWNS), %s times", kernel, cpus, most)
	set xlabel "percentile"
	set ylabel "the caller's time, µs"
	set xrange [0:100]
	set output where . "-latency.svg"
	plot for [name in present] distribution \
		using (is(name) && strcol("op") eq "unshare" && strcol("n") eq most && strcol("round") eq "1" ? column("percent") : NaN):(column("us")) \
		with lines lw 2 title name

	set title sprintf("%s, %s CPU(s): unshare(CLONE\\_NEWNS), until all are gone", kernel, cpus)
	set logscale xy
	set xlabel "namespaces"
	set ylabel "ms"
	set xrange [*:*]
	set output where . "-gone.svg"
	plot for [name in present] results \
		using (is(name) && strcol("op") eq "unshare" ? column("n") : NaN):(column("gone_ms")):(column("least_gone_ms")):(column("most_gone_ms")) \
		with yerrorlines lw 2 title name
}

# The life of a container: a row for each task, grey, with its waits, red; grace
# periods, blue, below them; releases that are pending, green, above.
if (!strlen(timeline)) { exit }
unset logscale
unset grid
unset key
set xlabel "ms"
set ylabel ""
unset ytics
set yrange [-0.6:3.6]
set style fill solid
set boxwidth 0.6
set output where . "-timeline.svg"
color(kind) = kind eq "task" ? 0xc0c0c0 : kind eq "wait" ? 0xd03030 : kind eq "gp" ? 0x3060d0 : 0x30a050
set terminal svg size 720,220*words(timeline) font "sans,14" background "white"
set multiplot layout words(timeline),1
do for [name in timeline] {
	set title sprintf("%s, %s CPU(s), %s", kernel, cpus, name)
	plot bars using (strcol("kernel") eq kernel && strcol("cpus") eq cpus && strcol("config") eq name ? (column("from_ms") + column("to_ms")) / 2 : NaN):(column("row")):(column("from_ms")):(column("to_ms")):(column("row") - 0.35):(column("row") + 0.35):(color(strcol("kind"))) \
		with boxxyerror lc rgb variable
}
unset multiplot
