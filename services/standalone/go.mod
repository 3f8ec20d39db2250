module tributary.dev/services/standalone

go 1.26.0

exclude google.golang.org/genproto v0.0.0-20210917145530-b395a37504d4

replace (
	tributary.dev/libs => ../../libs
	tributary.dev/proto => ../../proto
	tributary.dev/services/connect => ../connect
	tributary.dev/services/conversation => ../conversation
	tributary.dev/services/privacy => ../privacy
	tributary.dev/services/slack => ../slack
	tributary.dev/services/sms => ../sms
)

require (
	tributary.dev/libs v0.0.0
	tributary.dev/proto v0.0.0
	tributary.dev/services/connect v0.0.0
	tributary.dev/services/conversation v0.0.0
	tributary.dev/services/privacy v0.0.0
	tributary.dev/services/slack v0.0.0
	tributary.dev/services/sms v0.0.0
)
