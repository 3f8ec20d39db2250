module tributary.dev/proto

go 1.26.0

exclude google.golang.org/genproto v0.0.0-20210917145530-b395a37504d4

require (
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
)
