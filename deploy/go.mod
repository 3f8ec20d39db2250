module tributary.dev/deploy

go 1.26.0

exclude google.golang.org/genproto v0.0.0-20210917145530-b395a37504d4

replace (
	tributary.dev/libs => ../libs
	tributary.dev/proto => ../proto
)

require tributary.dev/libs v0.0.0
