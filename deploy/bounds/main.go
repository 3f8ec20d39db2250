// Command bounds writes down every queue, cache, pool, goroutine, time-out and retry of the mesh with its
// bound, and finds those that have none. Run it in the repository's root.
//
// A place that could grow, or wait, says in a comment directly above it (or behind it on its line) what
// bounds it:
//
//	//bound:<kind> <what> | <bound> | <what happens at the bound>
//	//bound:exempt <why nothing can grow or wait here>
//
// Kinds are queue, cache, limit, pool, goroutines, timeout and retry. A number never stands in the text: it
// is read from the code. In the bound, {} is the value at the place itself (a capacity, a duration), {$2} the
// second argument of the call there, {maxWaiting} or {2*callTimeout} a constant, {Config.Hold} what the one
// literal of Config that sets Hold sets it to, {bytes maxBody} the same in KiB or MiB, and
// {TRIBUTARY_SPOOL_BYTES} a setting with its default.
//
// Above a type, a comment covers the fields of that struct that have none of their own. Above a function, //bound:caller <kind> asks each
// of its callers instead.
//
// The places are, in all packages of libs and services that their commands are made of:
//
//   - a channel made with a capacity, or with an element that says something;
//   - a goroutine, but for those of a group that is waited for where it is declared, outside of loops;
//   - a field or package variable that is a map or slice and is added to after its value was made, and a
//     local one that a loop without an end adds to;
//   - a context, timer or connection given a deadline, and the durations and limits in the literals of
//     other modules' types (http.Server, kafka.Writer);
//   - what makes pools, caches, limiters and pauses of retries;
//   - what reads to the end of a stream.
//
// What is counted by hand says so at its constant: a bound above `const maxWaiting = 1024` makes a row too.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := generate("."); err != nil {
		fmt.Fprintln(os.Stderr, "bounds:", err)
		os.Exit(1)
	}
}

// generate writes the tables into ARCHITECTURE.md below root, or tells what has no bound.
func generate(root string) error {
	found, err := check(root)
	if err != nil {
		return err
	}
	return write(root, found)
}

// check finds all bounds of the mesh below root. Its error names each place that has none.
func check(root string) ([]bound, error) {
	known, err := readSettings(root)
	if err != nil {
		return nil, err
	}
	pkgs, err := load(root, "tributary.dev/libs/...", "tributary.dev/services/...")
	if err != nil {
		return nil, err
	}
	found, problems := inspect(run(pkgs), known)
	if len(problems) > 0 {
		return nil, refused(root, problems)
	}
	return found, nil
}
