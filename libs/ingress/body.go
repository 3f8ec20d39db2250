package ingress

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"

	"tributary.dev/libs/endpointx/problem"
)

// room is what the bodies of all requests may take together, in bytes.
type room struct {
	limit int64
	taken atomic.Int64
}

func (r *room) enter(n int) bool {
	if r.taken.Add(int64(n)) <= r.limit {
		return true
	}
	r.taken.Add(int64(-n))
	return false
}

// leave gives back what a body took.
func (r *room) leave(body []byte) { r.taken.Add(int64(-cap(body))) }

// body reads what the provider sent, within the channel's limit and the server's time for it. What it gives takes room, also
// beside an error: bodies.leave gives that back.
func (in *Ingress) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > in.Features.BodyLimit {
		w.Header().Set("Connection", "close") // the rest is not worth reading
		return nil, problem.TooLarge()
	}
	//bound:limit the body of a webhook | the channel's body_limit | 413
	body, err := in.readAll(http.MaxBytesReader(w, r.Body, in.Features.BodyLimit), r.ContentLength)
	var limit *http.MaxBytesError
	switch {
	case err == nil:
		return body, nil
	case errors.As(err, &limit):
		w.Header().Set("Connection", "close")
		return body, problem.TooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return body, refused(http.StatusRequestTimeout, "slow", "The body took too long")
	case errors.Is(err, errNoRoom):
		w.Header().Set("Connection", "close")
		return body, unavailable("busy")
	}
	return body, refused(http.StatusBadRequest, "incomplete", "The body ended early")
}

// errNoRoom: the bodies of other requests take all there is.
var errNoRoom = errors.New("ingress: no room for another body")

// firstRead is what a body is given to begin with. It takes more only as it comes: who promises much and sends little
// takes no room from others.
const firstRead = 4 << 10

// readAll reads r, which is said to have size bytes; less than 0: nobody knows.
func (in *Ingress) readAll(r io.Reader, size int64) (body []byte, err error) {
	most := size
	if size < 0 {
		most = in.Features.BodyLimit + 1 // at which the reader gives up
	}
	for next := firstRead; ; next *= 4 {
		next = int(min(int64(next), most))
		if !in.bodies.enter(next) {
			return body, errNoRoom
		}
		grown := make([]byte, len(body), next)
		copy(grown, body)
		in.bodies.leave(body)
		body = grown
		for len(body) < cap(body) {
			n, err := r.Read(body[len(body):cap(body)])
			body = body[:len(body)+n]
			if err != nil {
				return body, atEnd(err, int64(len(body)), size)
			}
		}
		if int64(len(body)) == size {
			return body, nil
		}
	}
}

// atEnd is what an error means after so many bytes of a size.
func atEnd(err error, read, size int64) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	if size >= 0 && read < size {
		return io.ErrUnexpectedEOF
	}
	return nil
}
