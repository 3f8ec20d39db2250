package providers

import (
	"net"
	"strconv"
)

// address of the nth stand-in.
func (h *Host) address(n int) string {
	port := 0
	if h.Port > 0 {
		port = h.Port + n
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}
