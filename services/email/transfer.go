package email

import (
	"bytes"
	"encoding/base64"
	"strings"
)

// transferred is what a transfer encoding (RFC 2045, 6) hid of a body. Not ok: the encoding is not known, or the body is
// not quite in it and has to be read with more patience.
func transferred(encoding string, body []byte) (content []byte, ok bool) {
	switch strings.ToLower(encoding) {
	case "", "7bit", "8bit", "binary":
		return body, true
	case "quoted-printable":
		return quotedPrintable(body)
	case "base64":
		content = make([]byte, base64.StdEncoding.DecodedLen(len(body)))
		n, err := base64.StdEncoding.Decode(content, body)
		return content[:n], err == nil
	}
	return nil, false
}

// quotedPrintable is a body in quoted-printable (RFC 2045, 6.7) decoded: what Go's reader makes of it byte by byte. Space at
// the end of a line is none of it. Not ok where an equals sign stands for neither a byte nor a line's going on.
func quotedPrintable(body []byte) (content []byte, ok bool) {
	content = make([]byte, 0, len(body))
	for len(body) > 0 {
		line, rest, ended := bytes.Cut(body, []byte("\n"))
		body = rest
		text := bytes.TrimRight(line, " \t\r")
		tail := line[len(text):]
		soft := bytes.HasSuffix(text, []byte("="))
		if soft {
			if text = text[:len(text)-1]; !ended || len(tail) > 0 && string(tail) != "\r" {
				return nil, false
			}
		}
		for {
			at := bytes.IndexByte(text, '=')
			if at < 0 {
				break
			}
			if at+2 >= len(text) {
				return nil, false
			}
			high, low := hexDigit(text[at+1]), hexDigit(text[at+2])
			if high < 0 || low < 0 {
				return nil, false
			}
			content = append(append(content, text[:at]...), byte(high<<4|low))
			text = text[at+3:]
		}
		content = append(content, text...)
		switch {
		case soft || !ended:
		case bytes.HasSuffix(tail, []byte("\r")):
			content = append(content, "\r\n"...)
		default:
			content = append(content, '\n')
		}
	}
	return content, true
}

// hexDigit's value; below 0 where it is none.
func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}
