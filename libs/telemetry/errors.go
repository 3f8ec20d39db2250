package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"reflect"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/grpc/status"
)

// ErrorText is what may be written of an error: our own words, and of every error of another package in
// its chain the type and, where it has one, the code. Texts of databases, parsers and providers quote the
// data they stumbled over.
func ErrorText(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	for _, e := range foreign(err, nil) {
		text = strings.ReplaceAll(text, e.Error(), describe(e))
	}
	return scrub(text)
}

// foreign collects, outermost first, the errors of err's tree whose text can't be trusted. What is below
// one of them is part of its text.
func foreign(err error, found []error) []error {
	if err == nil || plain(err) {
		return found
	}
	switch e := err.(type) { //nolint:errorlint // the tree is walked by hand
	case *net.OpError:
		return append(found, err)
	case interface{ Unwrap() []error }:
		if ours(err) {
			for _, inner := range e.Unwrap() {
				found = foreign(inner, found)
			}
			return found
		}
	case interface{ Unwrap() error }:
		if ours(err) {
			return foreign(e.Unwrap(), found)
		}
	default:
		if ours(err) {
			return found
		}
	}
	if err.Error() == "" {
		return found
	}
	return append(found, err)
}

// plain errors have fixed texts: sentinels of the standard library, and enumerations (syscall.Errno, the
// brokers' error codes).
func plain(err error) bool {
	if reflect.ValueOf(err).CanInt() || reflect.ValueOf(err).CanUint() {
		return true
	}
	for _, sentinel := range []error{context.Canceled, context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, os.ErrDeadlineExceeded} {
		if err == sentinel { //nolint:errorlint // what wraps a sentinel has a text of its own
			return true
		}
	}
	return false
}

// ours are errors made by this module's packages, and those of errors and fmt, whose words are ours but
// for what they wrap.
func ours(err error) bool {
	t := reflect.TypeOf(err)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	path := t.PkgPath()
	return path == "errors" || path == "fmt" || strings.HasPrefix(path, "tributary.dev/")
}

func describe(err error) string {
	var (
		pg   *pgconn.PgError
		op   *net.OpError
		dns  *net.DNSError
		path *fs.PathError
		no   syscall.Errno
	)
	kind := strings.TrimPrefix(fmt.Sprintf("%T", err), "*")
	switch {
	case errors.As(err, &pg):
		return "[" + kind + " SQLSTATE " + pg.Code + "]"
	case errors.As(err, &dns):
		return "[" + kind + " host not resolved]"
	case errors.As(err, &op) && errors.As(err, &no):
		return "[" + kind + " " + op.Op + ": " + no.Error() + "]"
	case errors.As(err, &op):
		return "[" + kind + " " + op.Op + "]"
	case errors.As(err, &path) && errors.As(err, &no):
		return "[" + kind + " " + path.Op + ": " + no.Error() + "]"
	case errors.Is(err, context.DeadlineExceeded):
		return "[" + kind + " deadline exceeded]"
	case errors.Is(err, context.Canceled):
		return "[" + kind + " cancelled]"
	}
	if s, ok := status.FromError(err); ok {
		return "[grpc " + s.Code().String() + "]"
	}
	if coder, ok := err.(interface{ Code() int }); ok {
		return fmt.Sprintf("[%s code %d]", kind, coder.Code())
	}
	return "[" + kind + "]"
}
