// SPDX-License-Identifier: GPL-3.0-or-later

// Command busy is what test pods run: a few words that need nothing else in their image.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

const usage = `busy sleep [SECONDS]      waits, for ever if not told otherwise
busy burn SECONDS         uses a processor
busy hold MEGABYTES       uses memory, and waits
busy exit CODE            ends so
busy serve PORT           answers every request of HTTP with the name of its host
busy fetch URL            prints what is there, within 5 s
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	word, rest := os.Args[1], os.Args[2:]
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGINT, syscall.SIGTERM)
	switch word {
	case "sleep":
		wait(ended, rest)
	case "burn":
		burn(ended, time.Duration(number(rest)*float64(time.Second)))
	case "hold":
		hold(ended, int(number(rest)))
	case "exit":
		os.Exit(int(number(rest)))
	case "serve":
		serve(ended, int(number(rest)))
	case "fetch":
		fetch(rest)
	default:
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
}

func number(words []string) float64 {
	if len(words) > 0 {
		if value, err := strconv.ParseFloat(words[0], 64); err == nil {
			return value
		}
	}
	fmt.Fprint(os.Stderr, usage)
	os.Exit(2)
	return 0
}

func wait(ended chan os.Signal, words []string) {
	if len(words) == 0 {
		<-ended
		return
	}
	select {
	case <-ended:
	case <-time.After(time.Duration(number(words) * float64(time.Second))):
	}
}

func burn(ended chan os.Signal, period time.Duration) {
	for end := time.Now().Add(period); time.Now().Before(end); {
		select {
		case <-ended:
			return
		default:
		}
	}
}

func hold(ended chan os.Signal, megabytes int) {
	held := make([]byte, megabytes<<20)
	for at := 0; at < len(held); at += 4096 {
		held[at] = 1
	}
	<-ended
	fmt.Println("held", len(held))
}

func serve(ended chan os.Signal, port int) {
	name, _ := os.Hostname()
	answer := func(out http.ResponseWriter, _ *http.Request) { fmt.Fprintln(out, name) }
	go func() {
		fmt.Fprintln(os.Stderr, http.ListenAndServe(fmt.Sprintf(":%d", port), http.HandlerFunc(answer)))
		os.Exit(1)
	}()
	<-ended
}

func fetch(words []string) {
	if len(words) != 1 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	client := http.Client{Timeout: 5 * time.Second}
	answer, err := client.Get(words[0])
	if err == nil {
		defer answer.Body.Close()
		_, err = io.Copy(os.Stdout, answer.Body)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
