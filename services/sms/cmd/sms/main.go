// Command sms runs the sms service of Tributary; its settings are in the service's README.
package main

import (
	"tributary.dev/libs/app"
	"tributary.dev/services/sms"
)

func main() { app.Main(sms.Service) }
