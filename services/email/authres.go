package email

import (
	"net/textproto"
	"strings"
)

// authentication is what the trusted host found of SPF, DKIM and DMARC (Authentication-Results, RFC 8601): the topmost
// field with its name, because hosts put theirs on top and take away those that claim to be theirs. Anybody may write
// such a field, so without a trusted host none counts.
func authentication(header textproto.MIMEHeader, trusted string) map[string]string {
	if trusted == "" {
		return nil
	}
	for _, field := range header.Values("Authentication-Results") {
		host, results := authenticationResults(field)
		if strings.EqualFold(host, trusted) {
			return results
		}
	}
	return nil
}

func authenticationResults(field string) (host string, results map[string]string) {
	all := strings.Split(uncommented(field), ";")
	if words := strings.Fields(all[0]); len(words) > 0 { // a version may follow the host
		host = words[0]
	}
	results = map[string]string{}
	for _, one := range all[1:] {
		words := strings.Fields(strings.NewReplacer(" = ", "=", " =", "=", "= ", "=").Replace(one))
		if len(words) == 0 {
			continue
		}
		method, result, _ := strings.Cut(strings.ToLower(words[0]), "=")
		method, _, _ = strings.Cut(method, "/") // and one its version
		switch method {
		case "spf", "dkim", "dmarc", "arc":
			if known(result) && results[method] != "pass" { // of several signatures one that holds is enough
				results[method] = result
			}
		}
	}
	return host, results
}

func known(result string) bool {
	switch result {
	case "pass", "fail", "softfail", "neutral", "none", "policy", "temperror", "permerror":
		return true
	}
	return false
}

// uncommented is a field without comments and quotation marks; what was quoted has no semicolon any more.
func uncommented(field string) string {
	var out strings.Builder
	depth, quoted := 0, false
	for i := 0; i < len(field); i++ {
		c := field[i]
		switch {
		case c == '\\':
			i++
		case c == '"' && depth == 0:
			quoted = !quoted
		case quoted:
			if c != ';' {
				out.WriteByte(c)
			}
		case c == '(':
			depth++
		case c == ')':
			depth = max(depth-1, 0)
		case depth == 0:
			out.WriteByte(c)
		}
	}
	return out.String()
}
