// Package named holds bounds as they are written, and comments that say nothing true.
package named

import (
	"context"
	"time"
)

//bound:limit who waits | {} | refused
const maxWaiting = 1024

const callTimeout = 1500 * time.Millisecond

type config struct {
	Hold  time.Duration
	Calls int
}

func standard() config { return config{Hold: 2 * time.Second, Calls: 4} }

// pending says more in its own documentation.
//
//bound:cache what is pending | {TRIBUTARY_ENTRIES} | the oldest goes
type pending struct {
	byKey map[string]int
	//bound:exempt as byKey
	order []string
}

func (p *pending) add(key string) {
	p.byKey[key]++
	p.order = append(p.order, key)
}

// pause is asked about where it is called.
//
//bound:caller retry
func pause(first, limit time.Duration) { _ = time.NewTimer(min(first, limit)) }

func bounds(ctx context.Context) {
	//bound:queue jobs | {}, of {maxWaiting} in all | the sender waits {callTimeout}
	_ = make(chan int, 8)
	_ = make(chan int, 1) //bound:exempt receives once
	//bound:retry asking | after {$1}, growing to {$2} | goes on
	pause(time.Second, time.Minute)
	//bound:timeout a call | {2*callTimeout}, holding {config.Hold} | {bytes maxWaiting} are lost, {bytes TRIBUTARY_BYTES} kept
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	//bound:queue jobs | {}, of {maxWaiting} in all | the sender waits {callTimeout}
	_ = make(chan int, 8)
	<-ctx.Done()
}

func faults(n int) {
	//bound:queue jobs | 8 | waits // want "a number in a bound stands in braces"
	_ = make(chan int, 8) // want "a channel without a bound"
	//bound:queue jobs | waits // want "a bound has three parts"
	_ = make(chan int, 8) // want "a channel without a bound"
	//bound:heap jobs | {} | waits // want "bound:heap is none of"
	_ = make(chan int, 8) // want "a channel without a bound"
	//bound:exempt
	_ = make(chan int, 8) // want above "exempt needs a reason" // want "a channel without a bound"
	//bound:timeout jobs | {} | waits // want "nothing here needs this comment"
	_ = make(chan int, 8) // want "a channel without a bound"
	//bound:queue jobs | {} | waits // want "n is not constant"
	_ = make(chan int, n)
	//bound:queue jobs | {TRIBUTARY_NOTHING} | waits // want "is no setting"
	_ = make(chan int, n)
	//bound:queue jobs | {config.Nothing} | waits // want "one literal of config must set Nothing to a constant, and 0 do"
	_ = make(chan int, n)
	//bound:queue jobs | {nothing} | waits // want "{nothing}: is no constant here"
	_ = make(chan int, n)
	pause(time.Second, time.Minute) // want "a call of pause without a bound"

	//bound:queue jobs | {} | waits // want "nothing here needs this comment"

	_ = n
}

//bound:caller retry // want "caller needs a kind"
func once() {}

//bound:caller retry
func nothing() {} // want above "nothing here needs this comment"
