package media

import (
	"net/netip"
	"testing"
)

func TestOnlyPublicAddressesMayBeAsked(t *testing.T) {
	for class, addrs := range map[string][]string{
		"loopback":        {"127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"},
		"private":         {"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fd00::1", "::ffff:10.0.0.1"},
		"link-local":      {"169.254.0.1", "fe80::1", "fe80::1%eth0"},
		"metadata":        {"169.254.169.254", "fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"},
		"carrier":         {"100.64.0.1", "100.127.255.254"},
		"multicast":       {"224.0.0.1", "239.255.255.255", "ff02::1"},
		"unspecified":     {"0.0.0.0", "::", "0.1.2.3"},
		"broadcast":       {"255.255.255.255", "240.0.0.1"},
		"documentation":   {"192.0.2.1", "198.51.100.7", "203.0.113.9", "2001:db8::1", "3fff::1"},
		"benchmark":       {"198.18.0.1", "198.19.255.255"},
		"translated IPv4": {"64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::1", "2001:0:7f00:1::1", "::127.0.0.1", "::ffff:0:127.0.0.1"},
		"site-local":      {"fec0::1"},
	} {
		t.Run(class, func(t *testing.T) {
			for _, a := range addrs {
				if public(netip.MustParseAddr(a), nil) {
					t.Errorf("%s may be asked", a)
				}
			}
		})
	}
	t.Run("public", func(t *testing.T) {
		for _, a := range []string{"1.1.1.1", "9.255.255.255", "172.32.0.1", "100.63.255.255", "2606:4700::1111", "::ffff:8.8.8.8"} {
			if !public(netip.MustParseAddr(a), nil) {
				t.Errorf("%s may not be asked", a)
			}
		}
	})
	t.Run("allowed ones beside them", func(t *testing.T) {
		allowed := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		if !public(netip.MustParseAddr("127.0.0.1"), allowed) || public(netip.MustParseAddr("10.0.0.1"), allowed) {
			t.Error("allowed prefixes are not what is allowed")
		}
	})
}
