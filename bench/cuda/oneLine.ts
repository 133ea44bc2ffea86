/** Imported by the benches for its effect: a failure is one line, as the command line's own. */
process.on('uncaughtException', (error) => {
  console.error(`error: ${error.message}`);
  process.exit(1);
});
