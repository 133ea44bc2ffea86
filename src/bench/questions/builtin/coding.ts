import type { Draft } from './types.js';

/** Coding: small programs, their faults and their improvement. */
export const coding: readonly Draft[] = [
  {
    turns: [
      'Write a Python function that counts how often each word occurs in a text, ignoring case and punctuation.',
      'Change it so that it returns only the ten most frequent words, the most frequent first.',
    ],
    reference: [
      'For example: re.findall(r"[a-z\']+", text.lower()) counted with collections.Counter.',
      'Counter(...).most_common(10).',
    ],
  },
  {
    turns: [
      'Find the bug in this Python function and repair it:\n\n```python\ndef mean(values):\n    total = 0\n    for i in range(1, len(values)):\n        total += values[i]\n    return total / len(values)\n```',
      'What should the function do with an empty list? Add it, with a test.',
    ],
    reference: [
      'range starts at 1 and skips the first value; use range(len(values)) or sum(values).',
      'Raise ValueError (or return a documented value); the test checks that it does.',
    ],
  },
  {
    turns: [
      'Write a JavaScript function that checks whether the brackets (), [] and {} in a string are balanced.',
      'Extend it to return the position of the first wrong bracket.',
    ],
    reference: [
      'Push opening brackets on a stack; on a closing one pop and compare; balanced when the stack ends empty.',
      'Keep positions on the stack; return the index of the mismatch, or of the unclosed bracket.',
    ],
  },
  {
    turns: [
      "Write an SQL query that lists each customer's name with the number of orders and the total amount. Tables: customers(id, name), orders(id, customer_id, amount).",
      'Customers without orders should appear too, with zero. And list only those below 100 in total.',
    ],
    reference: [
      'SELECT c.name, COUNT(o.id), SUM(o.amount) FROM customers c JOIN orders o ON o.customer_id = c.id GROUP BY c.id, c.name;',
      'LEFT JOIN, COALESCE(SUM(o.amount), 0), and HAVING COALESCE(SUM(o.amount), 0) < 100.',
    ],
  },
  {
    turns: [
      'Implement binary search in Python. It should return the index of the value, or -1.',
      'Change it to return the first index if the value occurs several times. What is the running time?',
    ],
    reference: [
      'The usual loop with low, high and mid.',
      'On equality continue to the left (high = mid - 1) and remember mid; still O(log n).',
    ],
  },
  {
    turns: [
      'Write a C function that reverses a string in place.',
      'Why does calling it on a string literal crash, and how should the caller be written?',
    ],
    reference: [
      'Swap characters from both ends until the indices meet.',
      'A literal lies in read-only memory; use a char array: char s[] = "text";',
    ],
  },
  {
    turns: [
      'Write a class in Python for a bank account with deposit, withdraw and balance. Withdrawing too much must fail with an error.',
      'Make it safe for use by several threads, and say what could go wrong without the change.',
    ],
    reference: [
      'A class with a balance and a ValueError (or own exception) when the amount exceeds it.',
      'Guard the methods with threading.Lock; otherwise two withdrawals may both pass the check.',
    ],
  },
  {
    turns: [
      'Write a shell command that finds all files larger than 100 MB under the current folder and prints them with their sizes, the largest first.',
      'Explain each part of the command, and make it safe for file names with spaces.',
    ],
    reference: [
      'For example: find . -type f -size +100M -printf "%s\\t%p\\n" | sort -rn.',
      'The -printf form already keeps a name on one line; with xargs use -print0 and -0.',
    ],
  },
  {
    turns: [
      'Write a TypeScript function `groupBy` that groups the elements of an array by the result of a key function. Give it good types.',
      'Show how to use it to group a list of people by the decade of their birth.',
    ],
    reference: [
      'function groupBy<T, K>(items: readonly T[], key: (item: T) => K): Map<K, T[]> with a loop.',
      'groupBy(people, (p) => Math.floor(p.birthYear / 10) * 10).',
    ],
  },
  {
    turns: [
      'Write a small HTML page with a text field and a button. When the button is clicked, the text appears below in reverse.',
      'Add CSS so that the page is centred and readable on a phone.',
    ],
    reference: [
      'An input, a button with a click handler and [...value].reverse().join("") as textContent.',
      'A viewport meta tag, max-width with margin auto, and a readable font size.',
    ],
  },
];
