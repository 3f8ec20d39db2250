// Command email runs the email service of Tributary; its settings are in the service's README.
package main

import (
	"tributary.dev/libs/app"
	"tributary.dev/services/email"
)

func main() { app.Main(email.Service) }
