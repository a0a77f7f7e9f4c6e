// Package lines prints what the Python side reads: one JSON object a line.
package lines

import (
	"encoding/json"
	"log"
	"os"
)

// Say prints a line.
func Say(line map[string]any) {
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		log.Fatal(err)
	}
}
