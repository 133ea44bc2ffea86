import type { LoadedRun } from '../compare/load.js';
import type { Report } from '../compare/report.js';

export function htmlReport(report: Report, _runs: readonly LoadedRun[]): string {
  return `<!doctype html><pre>${report.claim}</pre>`;
}
