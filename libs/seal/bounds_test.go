package seal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestWhatIsAskedLeavesNothingBehind: neither questions that were answered, nor what was cached of them.
func TestWhatIsAskedLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl = 45 * time.Second
		c := newCache[string](ttl, 1000, time.Now)
		b := batcher[string, Subject]{ask: func(_ context.Context, questions []string) ([]Subject, error) {
			answers := make([]Subject, len(questions))
			for i, q := range questions {
				answers[i] = Subject{ID: q}
				c.put(entry[string]{key: q, subject: answers[i], sent: time.Now()}, 0)
			}
			return answers, nil
		}}
		var callers sync.WaitGroup
		for i := range 5000 {
			callers.Go(func() {
				if _, err := b.do(t.Context(), []string{fmt.Sprint(i), fmt.Sprint(-i)}); err != nil {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		synctest.Wait()
		if len(b.open) != 0 || len(b.waiting) != 0 || b.running != 0 {
			t.Errorf("%d questions are open, %d wait, %d calls run", len(b.open), len(b.waiting), b.running)
		}
		if len(c.entries) != 1000 || len(c.bySubject) != 1000 {
			t.Errorf("%d entries of %d subjects are kept", len(c.entries), len(c.bySubject))
		}
		time.Sleep(ttl)
		synctest.Wait()
		if len(c.entries) != 0 || c.order.Len() != 0 || len(c.bySubject) != 0 || c.timer != nil {
			t.Errorf("%d entries of %d subjects outlive their time", len(c.entries), len(c.bySubject))
		}
	})
}

// TestQuestionsThatWaitAreBounded while the registry does not answer.
func TestQuestionsThatWaitAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := batcher[string, int]{ask: func(ctx context.Context, questions []string) ([]int, error) {
			time.Sleep(time.Hour)
			return make([]int, len(questions)), nil
		}}
		var refused int
		for i := range 2 * maxWaiting / MaxItems {
			questions := make([]string, MaxItems)
			for j := range questions {
				questions[j] = fmt.Sprint(i, "/", j)
			}
			if _, err := b.join(t.Context(), questions); errors.Is(err, errOverloaded) {
				refused++
			}
		}
		if len(b.waiting) > maxWaiting || len(b.open) > maxWaiting+parallelCalls*MaxItems || refused == 0 {
			t.Errorf("%d wait, %d are open, %d were refused", len(b.waiting), len(b.open), refused)
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if len(b.open) != 0 {
			t.Errorf("%d are open when all were answered", len(b.open))
		}
	})
}
