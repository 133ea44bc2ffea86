import { DraftMemory } from '../decoding/draft/draftMemory.js';

/** Users whose memories are kept; the one who came least recently makes room. */
const mostUsers = 16;

/** What drafts learn from, each user's apart: nothing of one user's texts gets into the drafts of another. */
export class DraftMemories {
  /** Least recent first. */
  private readonly byUser = new Map<string, DraftMemory>();

  /** @param own what calls that name no user learn from, where it was stored */
  constructor(private own?: DraftMemory) {}

  /** The memory of a user; '' is nobody in particular. */
  of(user: string): DraftMemory {
    if (user === '' && this.own) return this.own;
    const memory = this.byUser.get(user) ?? new DraftMemory();
    this.byUser.delete(user);
    this.byUser.set(user, memory);
    if (this.byUser.size > mostUsers) this.byUser.delete(this.byUser.keys().next().value!);
    return memory;
  }

  /** Forgets the texts of one user. */
  forgetUser(user: string): void {
    this.byUser.delete(user);
  }

  /** Forgets the texts of all users. */
  forget(): void {
    this.byUser.clear();
    if (this.own) this.own = new DraftMemory({ earlier: true });
  }

  /** What is to be stored. */
  get stored(): DraftMemory | undefined {
    return this.own;
  }
}
