package app

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// askEvery is how often the registry is asked for the time beside what it is asked for anyhow: a service that
// asks it for nothing goes by the mesh's clock too.
const (
	askEvery = time.Minute
	// firstAsked and longestAsked are the pauses while it does not answer.
	firstAsked   = 100 * time.Millisecond
	longestAsked = 5 * time.Second
)

// keepTime has the registry tell the time, until it has and then now and again.
func (r *run) keepTime(ctx context.Context) error {
	//bound:retry asking the registry for the time | after {firstAsked}, growing to {longestAsked} | the clock stays as it is
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = firstAsked, longestAsked
	for asked := false; ; {
		err := r.services[0].deps.Seal.AskTime(ctx) // the services of a process share its clock
		if !asked {
			close(r.timeAsked)
			asked = true
		}
		wait := askEvery
		if err != nil {
			r.p.Telemetry.Log.DebugContext(ctx, "the registry does not tell the time", "error", err)
			wait = pause.NextBackOff()
		} else {
			pause.Reset()
		}
		//bound:timeout between two times that the registry is asked for the time | {askEvery} | a clock that went wrong is set right
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// timeKnown is ready once the registry was asked for the time, whether it could answer or not: who goes by a
// wrong clock of its own refuses what providers sign.
func (r *run) timeKnown() error {
	select {
	case <-r.timeAsked:
		return nil
	default:
		return errors.New("the registry was not asked for the time yet")
	}
}

// timed lets requests wait until then, as long as one call of the registry takes at most: not all who call look
// first whether the process is ready.
func (r *run) timed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		select {
		case <-r.timeAsked:
			next.ServeHTTP(w, req)
		case <-req.Context().Done():
		}
	})
}
