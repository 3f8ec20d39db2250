package media

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// ErrForbiddenAddress: the address is not a public one.
var ErrForbiddenAddress = errors.New("media: address is not public")

// reserved is what the special-purpose registries (RFC 6890, IANA) keep from the public internet, and the
// translated forms by which an IPv4 address of the inside could be reached through IPv6. Loopback, private,
// link-local and multicast are net/netip's to know.
var reserved = prefixes(
	"0.0.0.0/8",        // this network
	"100.64.0.0/10",    // shared by carriers (RFC 6598); a cloud's metadata too
	"168.63.129.16/32", // the host of an Azure machine
	"192.0.0.0/24",     // protocol assignments; a cloud's metadata too
	"192.0.2.0/24",     // documentation
	"192.88.99.0/24",   // 6to4 relays
	"198.18.0.0/15",    // benchmarks
	"198.51.100.0/24",  // documentation
	"203.0.113.0/24",   // documentation
	"240.0.0.0/4",      // not assigned, broadcast
	"64:ff9b::/96",     // NAT64
	"64:ff9b:1::/48",   // NAT64, local
	"100::/64",         // discarded
	"2001::/23",        // protocol assignments, Teredo
	"2001:db8::/32",    // documentation
	"2002::/16",        // 6to4
	"3fff::/20",        // documentation
	"5f00::/16",        // segment routing
	"fec0::/10",        // site-local, deprecated
	"::ffff:0:0:0/96",  // IPv4-translated (SIIT)
	"::/96",            // IPv4-compatible, deprecated
)

func prefixes(texts ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		all[i] = netip.MustParsePrefix(text)
	}
	return all
}

// public tells whether an address may be asked: one of the public internet, or within allowed.
func public(addr netip.Addr, allowed []netip.Prefix) bool {
	addr = addr.Unmap()
	if within(addr.WithZone(""), allowed) {
		return true
	}
	if !addr.IsValid() || addr.Zone() != "" || !addr.IsGlobalUnicast() || addr.IsPrivate() {
		return false
	}
	return !within(addr, reserved)
}

func within(addr netip.Addr, prefixes []netip.Prefix) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// PublicOnly is a net.Dialer's Control that lets nothing be connected to but public addresses, and those within allowed.
// The error is ErrForbiddenAddress.
func PublicOnly(allowed []netip.Prefix) func(network, address string, _ syscall.RawConn) error {
	return checkDialled(allowed)
}

// checkDialled is a net.Dialer's Control: it sees the address that is about to be connected to, after
// whatever a name resolved to.
func checkDialled(allowed []netip.Prefix) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return ErrForbiddenAddress
		}
		addr, err := netip.ParseAddr(host)
		if err != nil || !public(addr, allowed) {
			return ErrForbiddenAddress
		}
		return nil
	}
}
